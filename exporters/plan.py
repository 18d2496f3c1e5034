"""OUT/plan.jsonl: every picture of the run, in its order, with what its file was when the run began."""

import json
import os
import stat
from array import array
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from ..engine.discovery import Source
from ..engine.errors import DatasetError, UsageError
from .atomic import atomic_path, file_sha256
from .exporter import SCHEMA

LEAST_SHARD, MOST_SHARD = 32, 2048  # pictures
PART = 100  # of the run is a shard
THREADS = 8  # that hash files: the disk is slower than they are
AT_ONCE = 1024
NAMED = 5  # differences that an error names

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Planned:
    """A picture, and its file as it was."""

    source: Source  # its sha256 None where the file could not be read
    bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, source: Source) -> "Planned":
        """Reads the file."""
        try:
            facts = os.stat(source.path)
            if not stat.S_ISREG(facts.st_mode):
                raise OSError("no regular file")
            digest = file_sha256(Path(source.path))
        except OSError:  # the run lists it as failed, with the reason
            return cls(replace(source, sha256=None), -1, -1)
        return cls(replace(source, sha256=digest), facts.st_size, facts.st_mtime_ns)

    def changed(self) -> str | None:
        """What is different about the file now, or None. Read again only where its size or time is another."""
        if self.source.sha256 is None:
            return None
        try:
            facts = os.stat(self.source.path)
        except OSError:
            return "is gone"
        if (facts.st_size, facts.st_mtime_ns) == (self.bytes, self.mtime_ns):
            return None
        return None if Planned.of(self.source).source.sha256 == self.source.sha256 else "has changed"


class Plan:
    """The pictures in shards: number k holds the rows from k · shard_size on. Rows stay on the disk."""

    def __init__(self, path: Path):
        """Opens it. Raises `DatasetError`."""
        self.path = path
        self._offsets = array("Q")  # of each shard's first row
        self._last: tuple[int, list[Planned]] | None = None
        try:
            with path.open("rb") as file:
                header = json.loads(file.readline())
                if header["schema"] != SCHEMA:
                    raise ValueError(f"schema {header['schema']!r}")
                self.total, self.shard_size = int(header["total"]), int(header["shard_size"])
                for row in range(self.total):
                    if row % self.shard_size == 0:
                        self._offsets.append(file.tell())
                    if not file.readline().endswith(b"\n"):
                        raise ValueError(f"it ends after {row} of {self.total} pictures")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path} is damaged: {error}") from error

    @classmethod
    def write(cls, path: Path, sources: Sequence[Source], shard_size: int) -> "Plan":
        """Reads every file once, for its hash."""
        header = {"schema": SCHEMA, "total": len(sources), "shard_size": shard_size}
        _write(path, header, _planned(sources))
        return cls(path)

    def __len__(self) -> int:
        """Its shards."""
        return len(self._offsets)

    def rows(self, number: int) -> list[Planned]:
        """Those of a shard."""
        if self._last is None or self._last[0] != number:
            with self.path.open("rb") as file:
                file.seek(self._offsets[number])
                self._last = number, [_parse(line) for line in islice(file, self.shard_size)]
        return self._last[1]

    def all_rows(self) -> Iterator[Planned]:
        """One by one."""
        with self.path.open("rb") as file:
            next(file)
            yield from map(_parse, file)

    def check_inputs(self, failed: Collection[str], numbers: Sequence[int] | None = None) -> None:
        """Raise `UsageError` naming files that are gone or were edited since; `failed`: pictures that may be. numbers:
        of shards; None: all."""
        rows = self.all_rows() if numbers is None else (row for number in numbers for row in self.rows(number))
        with ThreadPoolExecutor(THREADS) as pool:
            found = (
                (row, what)
                for some in _batches(rows)
                for row, what in zip(some, pool.map(Planned.changed, some), strict=True)
            )
            named = [f"{row.source.path} {what}" for row, what in found if what and row.source.name not in failed]
        if named:
            raise UsageError(
                f"inputs changed since the run began: {_some(named)}; put them back, or choose another OUT for a new run"
            )

    def check_sources(self, sources: Sequence[Source]) -> None:
        """Raise `UsageError` where the input now holds other pictures."""
        found = {source.relative for source in sources}
        planned = {row.source.relative for row in self.all_rows()}
        named = [f"{name} is new" for name in sorted(found - planned)] + [
            f"{name} is gone" for name in sorted(planned - found)
        ]
        if named:
            raise UsageError(f"{self.path.parent} holds a run over other pictures: {_some(named)}; choose another OUT")

    def renew(self, names: set[str]) -> "Plan":
        """Take the files of these pictures as they are now; -> the plan, opened again."""
        header = {"schema": SCHEMA, "total": self.total, "shard_size": self.shard_size}
        _write(
            self.path, header, (Planned.of(row.source) if row.source.name in names else row for row in self.all_rows())
        )
        return Plan(self.path)


def auto_shard_size(total: int) -> int:
    """A hundredth of the run, what it repeats at the most when it is killed."""
    return max(LEAST_SHARD, min(MOST_SHARD, -(-total // PART)))


def _planned(sources: Sequence[Source]) -> Iterator[Planned]:
    with ThreadPoolExecutor(THREADS) as pool:
        for some in _batches(iter(sources)):
            yield from pool.map(Planned.of, some)


def _batches(items: Iterator[T]) -> Iterator[list[T]]:
    while some := list(islice(items, AT_ONCE)):
        yield some


def _write(path: Path, header: dict[str, Any], rows: Iterator[Planned]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(header) + "\n")
        for row in rows:
            source = row.source
            facts = {
                "path": os.path.abspath(source.path),
                "relative": source.relative,
                "name": source.name,
                "split": source.split,
            }
            # ASCII: the path may hold bytes that are no UTF-8, as surrogates
            file.write(
                json.dumps(facts | {"bytes": row.bytes, "mtime_ns": row.mtime_ns, "sha256": source.sha256}) + "\n"
            )


def _parse(line: bytes) -> Planned:
    facts = json.loads(line)
    source = Source(facts["path"], facts["relative"], facts["name"], facts["split"], facts["sha256"])
    return Planned(source, facts["bytes"], facts["mtime_ns"])


def _some(named: list[str]) -> str:
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return f"{'; '.join(named[:NAMED])}{more}"
