"""A run's folder: run.json, plan.jsonl, ledger.jsonl, and the shards of finished pictures."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...engine.errors import DatasetError, UsageError
from ...engine.inputs.sources import Source
from ...engine.records import Record
from ...exporters.base.exporter import FORMATS, RUN_FILES, exporter_class
from ...exporters.base.header import Header
from ...exporters.base.labels import class_name
from ...exporters.files.atomic import discard, write_json
from ...exporters.hdf5.reading import read_records
from .ledger import Ledger
from .lock import RunLock
from .plan import Plan, auto_shard_size
from .record import RunRecord

if TYPE_CHECKING:  # it imports torch, which `relatent info` does without
    from ...engine.inputs.masks import Masks


class RunFolder:
    """The files of one run. `record` is the contents of run.json; `update` replaces it, `save` writes it."""

    def __init__(self, out: Path, record: RunRecord):
        self.out, self.record = out, record
        self.ledger = Ledger(out / "ledger.jsonl")
        self._plan: Plan | None = None

    @classmethod
    def begin(cls, out: Path, record: RunRecord, sources: Sequence[Source], shard_size: int | None) -> "RunFolder":
        """Begin the run of `record` over `sources`, or open the same run where `out` holds it already.

        shard_size: pictures; None: by their number. The caller holds the run's lock. Raises `UsageError` where the
        folder holds another run, naming what differs, and where its inputs have changed.
        """
        if (out / "run.json").exists():
            folder = cls.open(out)
            if differences := folder.record.differences(record):
                raise UsageError(
                    f"{out} holds another run: {'; '.join(differences)}. `relatent resume {out}` goes on with its own "
                    "settings; for these choose another OUT"
                )
            folder.add_formats(record.settings.formats)
            if record.batch_size != "auto":  # it says how the run goes on, not what comes out
                folder.update(batch_size=record.batch_size)
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
        """Open an existing run. Raises `DatasetError` where there is none, and where run.json is damaged or foreign."""
        path = out / "run.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DatasetError(f"{out} holds no run: there is no run.json in it") from error
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path} is damaged: {error}") from error
        return cls(out, RunRecord.from_json(values, str(path)))

    def update(self, **changes: Any) -> None:
        """Replace these fields of `record`, in memory: `save` writes it."""
        self.record = dataclasses.replace(self.record, **changes)

    def add_formats(self, names: Sequence[str]) -> None:
        """Add formats, in memory, to those that the run writes at its end."""
        settings = self.record.settings
        formats = tuple(dict.fromkeys([*settings.formats, *names]))
        self.update(settings=dataclasses.replace(settings, formats=formats))

    def save(self) -> None:
        """Write run.json."""
        write_json(self.out / "run.json", self.record.to_json())

    @property
    def planned(self) -> bool:
        """Whether the run has come as far as its plan."""
        return (self.out / "plan.jsonl").exists()

    @property
    def plan(self) -> Plan:
        """The pictures of the run, in shards. Raises `DatasetError` where the plan is missing or damaged."""
        if self._plan is None:
            self._plan = Plan(self.out / "plan.jsonl")
        return self._plan

    def make_plan(self, sources: Sequence[Source], shard_size: int | None) -> None:
        """Write the plan. shard_size: pictures; None: by their number."""
        size = shard_size or auto_shard_size(len(sources))
        self._plan = Plan.write(self.out / "plan.jsonl", sources, size, self.masks)

    @cached_property  # `Masks` lists their whole folder
    def masks(self) -> "Masks | None":
        """The run's masks; None where it has none. Raises `UsageError` where their folder is gone."""
        from ...engine.inputs.masks import Masks

        folder = self.record.settings.masks
        return None if folder is None else Masks(folder)

    def check_inputs(self) -> None:
        """Raise `UsageError` naming the files that have changed; those of pictures that failed may change."""
        self.plan.check_inputs(self.ledger.failed())

    def retry_failed(self) -> None:
        """Put the pictures that failed back into the plan, with their files as they are now."""
        if failed := self.ledger.failed():
            self._plan = self.plan.renew(failed, self.masks)
            self.ledger.reopen()

    @property
    def header(self) -> Header:
        """What the run's shards and datasets say of it, without classes and splits."""
        return self.record.header()

    def header_for(self, name: str) -> Header:
        """Return the header for one format, with classes and splits where the format asks for them.

        Classes are sorted, splits in the run's order; those of pictures that failed count too.
        """
        if not exporter_class(name).needs_classes:
            return self.header
        classes: set[str] = set()
        splits: dict[str, None] = {}
        for row in self.plan.all_rows():
            classes.add(class_name(row.source.relative, row.source.split))
            splits[row.source.split] = None
        return dataclasses.replace(self.header, classes=tuple(sorted(classes)), splits=tuple(splits))

    def shard_path(self, number: int) -> Path:
        """Return where the file of that shard is, or will be."""
        return self.out / "shards" / f"shard-{number:06d}.h5"

    def unfinished(self) -> list[int]:
        """Return the numbers of the shards that are not begun or not complete."""
        finished = self.ledger.shards()
        return [n for n in range(len(self.plan)) if n not in finished or not finished[n].whole]

    def files(self) -> list[Path]:
        """Return the shards' files, in the run's order."""
        found = self.ledger.shards().values()
        return [self.out / "shards" / shard.file for shard in found if shard.file is not None]

    def records(self) -> Iterator[list[Record]]:
        """Yield the finished pictures in batches, in the run's order."""
        for path in self.files():
            yield from read_records(path)

    def clean(self) -> None:
        """Remove what a killed process left half-written, and cut the ledger's unfinished last line.

        The caller holds the run's lock.
        """
        self.ledger.mend()
        self.clean_shards()
        for name in (*RUN_FILES, *(place for _, _, place in FORMATS.values())):
            for pattern in (f".{Path(name).stem}.partial-*", f".{name}.old-*"):
                for path in self.out.glob(pattern):
                    discard(path)

    def clean_shards(self) -> None:
        """Remove half-written shards. The caller holds the run's lock, and no process makes shards."""
        for path in (self.out / "shards").glob(".*.partial-*"):
            discard(path)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the run's lock in `out`, a folder that is created where it is not there.

    Raises `UsageError` where another process holds it, and for a folder that is not a run's.
    """
    check_vacant(out)
    with ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(RunLock(out))
        except OSError as error:
            raise UsageError(f"cannot write to {out}: {error}") from error
        yield


def check_vacant(out: Path) -> None:
    """Raise `UsageError` for a folder that holds files of a run's names but no run.json."""
    if (out / "run.json").exists():
        return
    outputs = [place for _, _, place in FORMATS.values()]
    taken = [name for name in (*RUN_FILES, *outputs) if name != "run.lock" and (out / name).exists()]
    if taken:
        raise UsageError(f"{out} holds {', '.join(taken)} but no run.json: it is no run's folder; choose another OUT")
