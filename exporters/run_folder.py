"""OUT as a run sees it: run.json, ledger.jsonl and the shards of finished pictures."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..engine.errors import DatasetError, UsageError
from ..engine.records import Failure, Record
from .atomic import append_line, write_json
from .exporter import FORMATS, SCHEMA, Header
from .hdf5 import HDF5Exporter, read_records


class RunFolder:
    """The files of one run. `record` is the contents of run.json."""

    def __init__(self, out: Path, record: dict[str, Any]):
        self.out, self.record = out, record

    @classmethod
    def create(cls, out: Path, record: dict[str, Any]) -> "RunFolder":
        """A new run in `out`. Raises `UsageError` where the folder holds another, naming what differs."""
        if (out / "run.json").exists():
            raise UsageError(_occupied(out, cls.open(out).record, record))
        outputs = [place for _, _, place in FORMATS.values()]
        taken = [name for name in ("shards", "ledger.jsonl", *outputs) if (out / name).exists()]
        if taken:
            raise UsageError(
                f"{out} holds {', '.join(taken)} but no run.json: it is no run's folder; choose another OUT"
            )
        try:
            (out / "shards").mkdir(parents=True)
        except OSError as error:
            raise UsageError(f"cannot write to {out}: {error}") from error
        folder = cls(out, record)
        folder.save()
        return folder

    @classmethod
    def open(cls, out: Path) -> "RunFolder":
        """An existing run. Raises `DatasetError` where there is none."""
        try:
            record = json.loads((out / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DatasetError(f"{out} holds no run: there is no run.json in it") from error
        except (OSError, ValueError) as error:
            raise DatasetError(f"{out / 'run.json'} is damaged: {error}") from error
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            raise DatasetError(f"{out / 'run.json'} is not of schema {SCHEMA}")
        return cls(out, record)

    @property
    def header(self) -> Header:
        return Header.from_run(self.record)

    def save(self) -> None:
        """Write run.json."""
        write_json(self.out / "run.json", self.record)

    def write_shard(self, records: list[Record]) -> None:
        """Finished pictures, as one verified file, then its line in the ledger."""
        number = sum(1 for line in self.ledger() if line["kind"] == "shard")
        name = f"shard-{number:06d}.h5"
        with HDF5Exporter(self.out / "shards" / name, self.header) as exporter:
            exporter.write(records)
        self._log({"kind": "shard", "shard": name, "images": [record.name for record in records]})

    def log_failure(self, failure: Failure) -> None:
        """One line for a picture that could not be done."""
        self._log({"kind": "failure", **failure.to_dict()})

    def ledger(self) -> list[dict[str, Any]]:
        """All its lines."""
        path = self.out / "ledger.jsonl"
        if not path.exists():
            return []
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except ValueError as error:
            raise DatasetError(f"{path} is damaged: {error}") from error

    def records(self) -> Iterator[list[Record]]:
        """Finished pictures, shard by shard, in the run's order."""
        for line in self.ledger():
            if line["kind"] == "shard":
                yield from read_records(self.out / "shards" / line["shard"])

    def _log(self, line: dict[str, Any]) -> None:
        append_line(self.out / "ledger.jsonl", {**line, "time": now()})


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _occupied(out: Path, found: dict[str, Any], wanted: dict[str, Any]) -> str:
    differences = []
    for section in ("settings", "config", "vae"):
        old, new = found.get(section, {}), wanted[section]
        differences += [
            f"{key} was {old.get(key)!r}, now {new.get(key)!r}" for key in new if old.get(key) != new.get(key)
        ]
    if differences:
        return f"{out} holds another run: {'; '.join(differences)}. Choose another OUT or delete this one"
    return f"{out} holds this run already, {found.get('status')}; `relatent export {out} --to FORMAT` writes more formats from it"
