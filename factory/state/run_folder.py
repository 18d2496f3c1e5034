"""OUT as a run sees it: run.json, plan.jsonl, ledger.jsonl and the shards of finished pictures."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...engine.errors import DatasetError, UsageError
from ...engine.inputs.sources import Source
from ...engine.records import Record
from ...exporters.base.exporter import FORMATS, RUN_FILES, SCHEMA, Header
from ...exporters.files.atomic import discard, write_json
from ...exporters.hdf5.exporter import read_records
from .ledger import Ledger
from .lock import RunLock
from .plan import Plan, auto_shard_size

if TYPE_CHECKING:  # it brings torch along, which `relatent info` does without
    from ...engine.inputs.masks import Masks

# settings that say how a run goes on, not what comes out
CHANGEABLE_SETTINGS = ("input", "formats", "shard_size", "device")


class RunFolder:
    """The files of one run. `record` is the contents of run.json."""

    def __init__(self, out: Path, record: dict[str, Any]):
        self.out, self.record = out, record
        self.ledger = Ledger(out / "ledger.jsonl")

    @classmethod
    def begin(cls, out: Path, record: dict[str, Any], sources: Sequence[Source], shard_size: int | None) -> "RunFolder":
        """The run of that record over those sources: a new one, or the one that `out` holds, to go on with. Only for who
        holds its lock. Raises `UsageError` where the folder holds another, naming what differs.
        """
        if (out / "run.json").exists():
            folder = cls.open(out)
            _check_same(out, folder.record, record)
            formats = folder.record["settings"]["formats"]
            folder.record["settings"]["formats"] = list(dict.fromkeys([*formats, *record["settings"]["formats"]]))
        else:
            folder = cls(out, record)
            try:
                (out / "shards").mkdir(exist_ok=True)
            except OSError as error:
                raise UsageError(f"cannot write to {out}: {error}") from error
            folder.save()
        if folder.planned:
            folder.plan.check_sources(sources)
            folder.check_inputs()
        else:
            folder.make_plan(sources, shard_size)
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

    _plan: Plan | None = None

    @property
    def planned(self) -> bool:
        """Whether the run came as far as its plan."""
        return (self.out / "plan.jsonl").exists()

    @property
    def plan(self) -> Plan:
        """Raises `DatasetError` where it is damaged."""
        if self._plan is None:
            self._plan = Plan(self.out / "plan.jsonl")
        return self._plan

    def make_plan(self, sources: Sequence[Source], shard_size: int | None) -> None:
        """Write it. shard_size: pictures; None: by their number."""
        size = shard_size or auto_shard_size(len(sources))
        self._plan = Plan.write(self.out / "plan.jsonl", sources, size, self.masks)

    @cached_property  # it goes through their whole folder
    def masks(self) -> "Masks | None":
        """Those of the run. Raises `UsageError` where there are none any more."""
        from ...engine.inputs.masks import Masks

        folder = self.record["settings"]["masks"]
        return None if folder is None else Masks(folder)

    def check_inputs(self) -> None:
        """Raise `UsageError` naming files that have changed; those of pictures that failed may."""
        self.plan.check_inputs(self.ledger.failed())

    def retry_failed(self) -> None:
        """Take the pictures that failed back into the plan, with their files as they are now."""
        if failed := self.ledger.failed():
            self._plan = self.plan.renew(failed, self.masks)
            self.ledger.reopen()

    @property
    def header(self) -> Header:
        return Header.from_run(self.record)

    def save(self) -> None:
        """Write run.json."""
        write_json(self.out / "run.json", self.record)

    def shard_path(self, number: int) -> Path:
        """Where that shard is, or will be."""
        return self.out / "shards" / f"shard-{number:06d}.h5"

    def unfinished(self) -> list[int]:
        """Numbers of the shards to do, or to complete."""
        finished = self.ledger.shards()
        return [n for n in range(len(self.plan)) if n not in finished or not finished[n].whole]

    def files(self) -> list[Path]:
        """The shards' files, in the run's order."""
        found = self.ledger.shards().values()
        return [self.out / "shards" / shard.file for shard in found if shard.file is not None]

    def records(self) -> Iterator[list[Record]]:
        """Finished pictures, shard by shard, in the run's order."""
        for path in self.files():
            yield from read_records(path)

    def clean(self) -> None:
        """Remove what a killed process left half-written, and cut its last line. Only for who holds the lock."""
        self.ledger.mend()
        self.clean_shards()
        for name in (*RUN_FILES, *(place for _, _, place in FORMATS.values())):
            for pattern in (f".{Path(name).stem}.partial-*", f".{name}.old-*"):
                for path in self.out.glob(pattern):
                    discard(path)

    def clean_shards(self) -> None:
        """Remove those that are half-written. Only for who holds the lock, while nobody makes any."""
        for path in (self.out / "shards").glob(".*.partial-*"):
            discard(path)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold `out`, which is made where it is not there. Raises `UsageError` where another run does, or for a folder that
    is not a run's."""
    check_vacant(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = RunLock(out).__enter__()
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error}") from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def check_vacant(out: Path) -> None:
    """Raise `UsageError` for a folder that holds files of a run's names but no run.json."""
    if (out / "run.json").exists():
        return
    outputs = [place for _, _, place in FORMATS.values()]
    taken = [name for name in (*RUN_FILES, *outputs) if name != "run.lock" and (out / name).exists()]
    if taken:
        raise UsageError(f"{out} holds {', '.join(taken)} but no run.json: it is no run's folder; choose another OUT")


def _check_same(out: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    differences = []
    for section in ("settings", "config", "vae"):
        old, new = found.get(section, {}), wanted[section]
        keys = [key for key in new if section != "settings" or key not in CHANGEABLE_SETTINGS]
        differences += [f"{key} was {old.get(key)!r}, now {new[key]!r}" for key in keys if old.get(key) != new[key]]
    if differences:
        raise UsageError(
            f"{out} holds another run: {'; '.join(differences)}. `relatent resume {out}` goes on with its own "
            "settings; for these choose another OUT"
        )
