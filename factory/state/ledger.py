"""OUT/ledger.jsonl: what is finished, one line of JSON per event, only ever appended to."""

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

FACTS = ("number", "file", "sha256", "bytes", "images", "whole")  # of a shard, in its line


@dataclass(frozen=True)
class Shard:
    """A finished part of the plan: a file in OUT/shards and the pictures that failed."""

    number: int
    file: str | None  # its name; None where every picture failed
    sha256: str | None  # of the file
    bytes: int
    images: int
    whole: bool = True  # False: interrupted, so it holds only some of its pictures
    failures: tuple[Failure, ...] = ()
    gains: tuple[float, ...] = field(default=(), compare=False)  # dB, for the eyes of who waits; not written


class Ledger:
    """Kinds of lines: `shard`, before it a `failure` for each picture that failed in it; `dropped`, a shard that is to be
    done again; `export`, a finished output with its checksum. The last line on a shard or an export holds."""

    def __init__(self, path: Path):
        self.path = path

    def lines(self) -> Iterator[dict[str, Any]]:
        """All of them; a last one that a killed process left unfinished is passed over. Raises `DatasetError`."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise DatasetError(f"{self.path} is damaged in line {number}: {error}") from error

    def shards(self) -> dict[int, Shard]:
        """By number, those that count, in order."""
        found: dict[int, Shard] = {}
        # by name: of a shard whose own line a killed process did not come to write, they come again
        failures: defaultdict[int, dict[str, Failure]] = defaultdict(dict)
        for line in self.lines():
            if line["kind"] == "failure":
                failures[line["shard"]][line["name"]] = Failure.from_dict(line)
            elif line["kind"] == "shard":
                facts = {name: line[name] for name in FACTS}
                found[line["number"]] = Shard(**facts, failures=tuple(failures.pop(line["number"], {}).values()))
            elif line["kind"] == "dropped":
                found.pop(line["number"], None)
        return dict(sorted(found.items()))

    def failed(self) -> set[str]:
        """Names of the pictures that failed."""
        return {failure.name for shard in self.shards().values() for failure in shard.failures}

    def exports(self) -> dict[str, dict[str, Any]]:
        """By path, the lines of what was exported last."""
        return {line["path"]: line for line in self.lines() if line["kind"] == "export"}

    def add_shard(self, shard: Shard) -> None:
        """Its failures and itself, in one write."""
        lines = [{"kind": "failure", "shard": shard.number, **failure.to_dict()} for failure in shard.failures]
        facts = {name: getattr(shard, name) for name in FACTS}
        self.append([*lines, {"kind": "shard", **facts, "failed": len(shard.failures)}])

    def add_export(self, name: str, path: str, sha256: str | None, size: int, single_file: bool | None = None) -> None:
        """A finished output. path: relative to OUT where it is inside. sha256, size: of the file, or of a folder's
        SHA256SUMS; None and 0 where it has none. single_file: of hdf5, that it is no virtual dataset."""
        facts = {"format": name, "path": path, "sha256": sha256, "bytes": size}
        kind = {} if single_file is None else {"single_file": single_file}
        self.append([{"kind": "export", **facts, **kind}])

    def drop(self, numbers: Iterable[int]) -> None:
        """Have these shards done again."""
        self.append([{"kind": "dropped", "number": number} for number in numbers])

    def reopen(self) -> None:
        """Count the shards that have failures as unfinished."""
        shards = [dataclasses.replace(shard, whole=False) for shard in self.shards().values() if shard.failures]
        for shard in shards:
            self.add_shard(shard)

    def append(self, lines: list[dict[str, Any]]) -> None:
        """On the disk before this returns."""
        text = "".join(json.dumps(line | {"time": now()}, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        with self.path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def mend(self) -> None:
        """Cut off a last line that a killed process left unfinished. Only for who holds the run's lock."""
        if self.path.exists():
            with self.path.open("r+b") as file:
                whole = file.read().rfind(b"\n") + 1
                file.truncate(whole)


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
