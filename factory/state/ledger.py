"""OUT/ledger.jsonl: the append-only log of finished work, one JSON object per line."""

import dataclasses
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...engine.errors import DatasetError
from ...engine.records import Failure
from .json_fields import check_types, parse_line

REMOVE = "remove that line: what it tells of is then found unfinished, and done again when the run goes on"
SHARD: dict[str, tuple[type, ...]] = {  # fields of a shard that its line in the ledger holds
    "number": (int,), "file": (str, type(None)), "sha256": (str, type(None)), "bytes": (int,), "images": (int,),
    "whole": (bool,),
}  # fmt: skip
KINDS: dict[str, dict[str, tuple[type, ...]]] = {
    "shard": SHARD,
    "failure": {"shard": (int,), **dict.fromkeys(("name", "split", "source_path", "stage", "reason"), (str,))},
    "dropped": {"number": (int,)},
    "export": {"format": (str,), "path": (str,), "sha256": (str, type(None)), "bytes": (int,)},
}


@dataclass(frozen=True)
class Shard:
    """A finished part of the plan: a file in OUT/shards and the pictures that failed."""

    number: int
    file: str | None  # file name; None if every picture failed
    sha256: str | None  # checksum of the file
    bytes: int
    images: int
    whole: bool = True  # False: interrupted, the shard holds only some of its pictures
    failures: tuple[Failure, ...] = ()
    gains: tuple[float, ...] = field(default=(), compare=False)  # dB, for the progress bar; not written to the ledger


class Ledger:
    """The append-only log of a run.

    Kinds of lines: `shard`, a finished shard, preceded by one `failure` for each picture that failed in it; `dropped`,
    a shard that has to be made again; `export`, a finished output with its checksum. The last line about a shard or an
    export is the valid one.
    """

    def __init__(self, path: Path):
        self.path = path

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield all lines, parsed but not checked; an incomplete last line, left by a killed process, is ignored.

        Raises `DatasetError` if a line is no JSON.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    found = parse_line(line)
                except ValueError as error:
                    raise self._damaged(number, error) from error
                yield found

    def _checked(self) -> Iterator[dict[str, Any]]:
        """Yield all lines. Raises `DatasetError` if one is damaged or of no kind that is known."""
        for number, line in enumerate(self.lines(), 1):
            try:
                _check(line)
            except ValueError as error:
                raise self._damaged(number, error) from error
            yield line

    def _damaged(self, line: int, error: Exception) -> DatasetError:
        """Return the error of a line that is not as it was written."""
        return DatasetError(f"{self.path} is damaged in line {line}: {error}; {REMOVE}")

    def shards(self) -> dict[int, Shard]:
        """Return the finished shards that are valid, by number and in ascending order."""
        found: dict[int, Shard] = {}
        # by name: failures are repeated if a killed process wrote them but not the line of their shard
        failures: defaultdict[int, dict[str, Failure]] = defaultdict(dict)
        for line in self._checked():
            if line["kind"] == "failure":
                failures[line["shard"]][line["name"]] = Failure.from_dict(line)
            elif line["kind"] == "shard":
                facts = {name: line[name] for name in SHARD}
                found[line["number"]] = Shard(**facts, failures=tuple(failures.pop(line["number"], {}).values()))
            elif line["kind"] == "dropped":
                found.pop(line["number"], None)
        return dict(sorted(found.items()))

    def failed(self) -> set[str]:
        """Return the names of the pictures that failed."""
        return {failure.name for shard in self.shards().values() for failure in shard.failures}

    def exports(self) -> dict[str, dict[str, Any]]:
        """Return the most recent line about each exported output, by its path."""
        return {line["path"]: line for line in self._checked() if line["kind"] == "export"}

    def add_shard(self, shard: Shard) -> None:
        """Append a shard together with its failures, in one write."""
        lines = [{"kind": "failure", "shard": shard.number, **failure.to_dict()} for failure in shard.failures]
        facts = {name: getattr(shard, name) for name in SHARD}
        self.append([*lines, {"kind": "shard", **facts, "failed": len(shard.failures)}])

    def add_export(self, name: str, path: str, sha256: str | None, size: int, single_file: bool | None = None) -> None:
        """Append a finished output.

        path: relative to OUT if it is inside. sha256, size: checksum and bytes of the file, or of a folder's
        SHA256SUMS; None and 0 if it has none. single_file: for hdf5, whether it is self-contained rather than a virtual
        dataset.
        """
        facts = {"format": name, "path": path, "sha256": sha256, "bytes": size}
        kind = {} if single_file is None else {"single_file": single_file}
        self.append([{"kind": "export", **facts, **kind}])

    def drop(self, numbers: Iterable[int]) -> None:
        """Mark these shards as dropped, so that they are made again."""
        self.append([{"kind": "dropped", "number": number} for number in numbers])

    def reopen(self) -> None:
        """Mark the shards that have failures as unfinished."""
        shards = [dataclasses.replace(shard, whole=False) for shard in self.shards().values() if shard.failures]
        for shard in shards:
            self.add_shard(shard)

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Append the lines with a timestamp, and fsync the file before returning."""
        text = "".join(json.dumps(line | {"time": now()}, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        with self.path.open("ab") as file:
            file.write(text.encode(errors="backslashreplace"))  # see `write_json`
            file.flush()
            os.fsync(file.fileno())

    def mend(self) -> None:
        """Truncate an incomplete last line that a killed process left. The caller holds the run's lock."""
        if self.path.exists():
            with self.path.open("r+b") as file:
                whole = file.read().rfind(b"\n") + 1
                file.truncate(whole)


def _check(line: Any) -> None:
    """Raise `ValueError` for a line that is not as it was written."""
    check_types(line, {"kind": (str,)})
    if line["kind"] not in KINDS:
        raise ValueError(f"unknown kind {line['kind']!r}")
    check_types(line, KINDS[line["kind"]])
    if negative := [name for name in KINDS[line["kind"]] if type(line[name]) is int and line[name] < 0]:
        raise ValueError(f"{negative[0]}: expected a whole number from 0, found {line[negative[0]]}")


def now() -> str:
    """Return the current time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
