"""OUT/plan.jsonl: every picture of the run, in order, with the state of its file and mask when the run began."""

import contextlib
import json
import os
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ...engine.errors import DatasetError, ImageError, UsageError
from ...engine.inputs.sizes import Size
from ...engine.inputs.sources import Source
from ...engine.runtime.atomic import atomic_path
from ...exporters.base.exporter import SCHEMA
from .file_state import Change, FileState
from .json_fields import check_types, parse_line
from .segments import Segment, divided

if TYPE_CHECKING:  # it imports torch
    from ...engine.inputs.masks import Masks

LEAST_SHARD, MOST_SHARD = 32, 2048  # limits of the default shard size, in pictures
PART = 100  # default number of shards of a run, within these limits
THREADS = 8  # threads that compute checksums: the disk is slower than they are
AT_ONCE = 1024  # files submitted to the thread pool at once
NAMED = 5  # maximum number of differences named in an error
LOST = "restore it from a copy; without it the run can neither go on nor be repaired"
FILE: dict[str, tuple[type, ...]] = {"path": (str,), "bytes": (int,), "mtime_ns": (int,), "sha256": (str, type(None))}
ROW = FILE | {"relative": (str,), "name": (str,), "split": (str,)}
HEADER: dict[str, tuple[type, ...]] = {"schema": (str,), "total": (int,), "shard_size": (int,)}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One picture of the plan, with the recorded state of its file and of its mask."""

    source: Source  # includes the checksums of file and mask
    file: FileState
    mask: FileState | None = None

    @classmethod
    def of(cls, source: Source, masks: "Masks | None") -> "PlannedImage":
        """Return the entry of a picture, reading its file and its mask for their checksums."""
        mask = None
        if masks is not None:
            with contextlib.suppress(ImageError):  # as in FileState.of: the run will list the picture as failed
                mask = FileState.of(os.path.abspath(masks.find(source)))
        return cls._with(source, FileState.of(source.path), mask)

    @classmethod
    def parse(cls, line: bytes, size: Size | None = None) -> "PlannedImage":
        """Parse one line of the plan, whose segment has that size. Raises `ValueError` for a damaged line."""
        facts = parse_line(line)
        check_types(facts, ROW)
        if facts.get("mask"):
            check_types(facts["mask"], FILE)
        source = Source(facts["path"], facts["relative"], facts["name"], facts["split"], size=size)
        mask = FileState(*(facts["mask"][key] for key in FILE)) if facts.get("mask") else None
        return cls._with(source, FileState(*(facts[key] for key in FILE)), mask)

    @classmethod
    def _with(cls, source: Source, file: FileState, mask: FileState | None) -> "PlannedImage":
        """Return an entry whose source holds the checksums of file and mask."""
        return cls(replace(source, sha256=file.sha256, mask_sha256=mask.sha256 if mask else None), file, mask)

    def line(self) -> str:
        """Return the line of the plan for this entry, the inverse of `parse`."""
        source, file = self.source, self.file
        facts = {
            "path": os.path.abspath(source.path),
            "relative": source.relative,
            "name": source.name,
            "split": source.split,
            "bytes": file.bytes,
            "mtime_ns": file.mtime_ns,
            "sha256": file.sha256,
        }
        if self.mask is not None:
            facts["mask"] = asdict(self.mask)
        return json.dumps(facts) + "\n"  # ASCII: a path may hold bytes that are no UTF-8, as surrogates

    def changes(self, content: bool = False) -> list[Change]:
        """Return how file and mask differ now. content: see `FileState.change`."""
        files = [self.file] if self.mask is None else [self.file, self.mask]
        return [change for file in files if (change := file.change(content)) is not None]


class Plan:
    """The pictures of a run, divided into shards of `shard_size` rows, fewer at the end of a segment. Rows stay on disk."""

    def __init__(self, path: Path):
        """Open the plan at `path`. Raises `DatasetError` if it is missing or damaged."""
        self.path = path
        self._offsets = array("Q")  # byte offset of the first row of each shard
        self._firsts = array("Q")  # its line in the file, counted from 1
        self._shards: list[Segment] = []  # number of rows and size of each shard
        self._last: tuple[int, list[PlannedImage]] | None = None
        try:
            with path.open("rb") as file:
                header = file.readline()
                try:
                    self.total, self.shard_size, self.segments = _read_header(header)
                except ValueError as error:
                    raise _damaged(path, 1, error) from error
                row = 0
                for shard in divided(self.segments, self.shard_size):
                    self._shards.append(shard)
                    self._offsets.append(file.tell())
                    self._firsts.append(row + 2)
                    for _ in range(shard.rows):
                        if not file.readline().endswith(b"\n"):
                            raise DatasetError(
                                f"{path} is damaged: it ends after {row} of {self.total} pictures; {LOST}"
                            )
                        row += 1
        except OSError as error:
            raise DatasetError(f"{path} is damaged: {error}; {LOST}") from error

    @classmethod
    def write(cls, path: Path, sources: Sequence[Source], shard_size: int, masks: "Masks | None") -> "Plan":
        """Write the plan and open it. Every input file is read once, for its checksum."""
        _write(path, Segment.of(sources), shard_size, _planned(sources, masks))
        return cls(path)

    def __len__(self) -> int:
        """Return the number of shards."""
        return len(self._offsets)

    def size(self, number: int) -> Size | None:
        """Return width and height of the targets of one shard; None if they have the one size of the run."""
        return self._shards[number].size

    def most_rows(self, size: Size | None) -> int:
        """Return the number of rows of the largest shard of that size."""
        return max((shard.rows for shard in self._shards if shard.size == size), default=0)

    def rows(self, number: int) -> list[PlannedImage]:
        """Return the rows of one shard. Raises `DatasetError` if one is damaged."""
        if self._last is None or self._last[0] != number:
            shard = self._shards[number]
            with self.path.open("rb") as file:
                file.seek(self._offsets[number])
                lines = islice(file, shard.rows)
                self._last = number, list(self._parsed(lines, self._firsts[number], shard.size))
        return self._last[1]

    def all_rows(self) -> Iterator[PlannedImage]:
        """Yield the rows of all shards, one at a time. Raises `DatasetError` if one is damaged."""
        with self.path.open("rb") as file:
            next(file)
            first = 2
            for segment in self.segments:
                yield from self._parsed(islice(file, segment.rows), first, segment.size)
                first += segment.rows
            yield from self._parsed(file, first)  # none, unless the file is damaged

    def _parsed(self, lines: Iterable[bytes], first: int, size: Size | None = None) -> Iterator[PlannedImage]:
        """Yield the rows in these lines of a segment of that size. first: the number of the first line, counted from 1."""
        for number, line in enumerate(lines, first):
            try:
                row = PlannedImage.parse(line, size)
            except ValueError as error:
                raise _damaged(self.path, number, error) from error
            yield row

    def changes(
        self, numbers: Sequence[int] | None = None, content: bool = False
    ) -> Iterator[tuple[PlannedImage, list[Change]]]:
        """Yield each picture with how its files differ now.

        numbers: the shards to check; None checks all. content: see `FileState.change`.
        """
        rows = self.all_rows() if numbers is None else (row for number in numbers for row in self.rows(number))
        with ThreadPoolExecutor(THREADS) as pool:
            for some in _batches(rows):
                yield from zip(some, pool.map(partial(PlannedImage.changes, content=content), some), strict=True)

    def check_inputs(
        self, failed: Collection[str], numbers: Sequence[int] | None = None, content: bool = False
    ) -> None:
        """Raise `UsageError` naming files that are missing or were edited since the run began.

        failed: names of pictures whose files may change. numbers, content: see `changes`.
        """
        found = self.changes(numbers, content)
        named = [str(one) for row, changes in found if row.source.name not in failed for one in changes]
        if named:
            raise UsageError(
                f"inputs changed since the run began: {_some(named)}; put them back, or choose another OUT for a new run"
            )

    def check_sources(self, sources: Sequence[Source]) -> None:
        """Raise `UsageError` if the input now holds other pictures than the plan."""
        new = self.missing(sources)
        if new:
            named = _some([f"{name} is new" for name in sorted({source.relative for source in new})])
            remedy = "--add adds what is new, or choose another OUT"
            raise UsageError(f"{self.path.parent} holds a run over other pictures: {named}; {remedy}")

    def missing(self, sources: Sequence[Source]) -> list[Source]:
        """Return the sources that the plan lacks. Raises `UsageError` if they lack pictures of the plan."""
        planned = {row.source.relative for row in self.all_rows()}
        gone = planned - {source.relative for source in sources}
        if gone:
            named = _some([f"{name} is gone" for name in sorted(gone)])
            remedy = "put back what is gone, or choose another OUT"
            raise UsageError(f"{self.path.parent} holds a run over other pictures: {named}; {remedy}")
        return [source for source in sources if source.relative not in planned]

    def extend(self, sources: Sequence[Source], masks: "Masks | None") -> "Plan":
        """Append these sources as segments of their own, and return the rewritten plan, opened again.

        Rows and shards that the plan has already stay as they are. Every new file is read once, for its checksum.
        """
        rows = chain(self.all_rows(), _planned(sources, masks))
        _write(self.path, [*self.segments, *Segment.of(sources)], self.shard_size, rows)
        return Plan(self.path)

    def renew(self, names: set[str], masks: "Masks | None") -> "Plan":
        """Record the files of these pictures as they are now, and return the rewritten plan, opened again."""
        rows = (PlannedImage.of(row.source, masks) if row.source.name in names else row for row in self.all_rows())
        _write(self.path, self.segments, self.shard_size, rows)
        return Plan(self.path)


def auto_shard_size(total: int) -> int:
    """Return the default number of pictures per shard.

    It is a hundredth of the run, the most that a killed run repeats, limited to 32 to 2048 pictures.
    """
    return max(LEAST_SHARD, min(MOST_SHARD, -(-total // PART)))


def _planned(sources: Sequence[Source], masks: "Masks | None") -> Iterator[PlannedImage]:
    """Yield the entries of all sources, computing checksums in a thread pool."""
    with ThreadPoolExecutor(THREADS) as pool:
        for some in _batches(iter(sources)):
            yield from pool.map(partial(PlannedImage.of, masks=masks), some)


def _batches(items: Iterator[T]) -> Iterator[list[T]]:
    """Yield the items in lists of at most `AT_ONCE`."""
    while some := list(islice(items, AT_ONCE)):
        yield some


def _damaged(path: Path, line: int, error: Exception) -> DatasetError:
    """Return the error of a line of the plan that is not as it was written."""
    return DatasetError(f"{path} is damaged in line {line}: {error}; {LOST}")


def _read_header(line: bytes) -> tuple[int, int, list[Segment]]:
    """Return what the first line of the plan states: number of pictures, pictures per shard and segments.

    It is one segment of all rows where the line states none. Raises `ValueError` for a damaged line.
    """
    header = parse_line(line)
    check_types(header, HEADER)
    total, shard_size = header["total"], header["shard_size"]
    if header["schema"] != SCHEMA:
        raise ValueError(f"schema {header['schema']!r}")
    if total < 0 or shard_size < 1:
        raise ValueError(f"{total} pictures in shards of {shard_size}")
    if "segments" not in header:
        return total, shard_size, [Segment(total)] if total else []
    check_types(header, {"segments": (list,)})
    segments = [Segment.parse(one) for one in header["segments"]]
    if sum(segment.rows for segment in segments) != total:
        raise ValueError(f"its segments do not add up to {total} pictures")
    return total, shard_size, segments


def _write(path: Path, segments: Sequence[Segment], shard_size: int, rows: Iterator[PlannedImage]) -> None:
    """Write the plan with an atomic rename."""
    header: dict[str, Any] = {
        "schema": SCHEMA,
        "total": sum(segment.rows for segment in segments),
        "shard_size": shard_size,
    }
    if [segment.size for segment in segments] not in ([], [None]):
        header["segments"] = [asdict(segment) for segment in segments]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(header) + "\n")
        file.writelines(row.line() for row in rows)


def _some(named: list[str]) -> str:
    """Join the first few differences for an error message, with the number of the others."""
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return f"{'; '.join(named[:NAMED])}{more}"
