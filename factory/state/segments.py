"""Segments of the plan: consecutive pictures of one size, which are divided into shards."""

import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from ...engine.inputs.sizes import Size
from ...engine.inputs.sources import Source
from .json_fields import check_types


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive rows of the plan whose targets have one size. No shard crosses its end."""

    rows: int
    size: Size | None = None  # width and height in pixels; None: the one size of the run

    @classmethod
    def of(cls, sources: Sequence[Source]) -> "list[Segment]":
        """Return the segments of these sources, in their order."""
        return [cls(sum(1 for _ in some), size) for size, some in groupby(sources, lambda source: source.size)]

    @classmethod
    def parse(cls, values: Any) -> "Segment":
        """Return the segment of this JSON object. Raises `ValueError` for a damaged one."""
        check_types(values, {"rows": (int,), "size": (list, type(None))})
        rows, size = values["rows"], values["size"]
        if rows < 1:
            raise ValueError(f"rows: expected a whole number from 1, found {rows}")
        if size is None:
            return cls(rows)
        if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
            raise ValueError(f"size: expected width and height, found {reprlib.repr(size)}")
        return cls(rows, (size[0], size[1]))


def divided(segments: Iterable[Segment], shard_size: int) -> Iterator[Segment]:
    """Yield the number of rows and the size of each shard of these segments."""
    for segment in segments:
        for start in range(0, segment.rows, shard_size):
            yield replace(segment, rows=min(shard_size, segment.rows - start))
