"""The folder of a run: run.json, plan.jsonl, ledger.jsonl, and the shards of finished pictures."""

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
from ...engine.runtime.atomic import discard, write_json
from ...exporters.base.exporter import FORMATS, RUN_FILES, exporter_class
from ...exporters.base.header import Header
from ...exporters.base.labels import class_name
from ...exporters.hdf5.reading import read_records
from .ledger import Ledger
from .lock import RunLock
from .plan import Plan, auto_shard_size
from .record import RunRecord

if TYPE_CHECKING:  # it imports torch, which `relatent info` avoids
    from ...engine.inputs.masks import Masks
    from ...engine.inputs.prefetch import Reader


class RunFolder:
    """The files of one run. `record` is the contents of run.json; `update` replaces it in memory, `save` writes it."""

    def __init__(self, out: Path, record: RunRecord):
        self.out, self.record = out, record
        self.ledger = Ledger(out / "ledger.jsonl")
        self._plan: Plan | None = None

    @classmethod
    def begin(
        cls, out: Path, record: RunRecord, sources: Sequence[Source], shard_size: int | None, add: bool = False
    ) -> "RunFolder":
        """Begin the run of `record` over `sources`, or open the same run if `out` already holds it.

        shard_size: pictures per shard; None derives it from their number. add: the sources may hold other pictures than
        an existing plan, which `extend_plan` then adds. The caller holds the run's lock. Raises `UsageError` if the
        folder holds another run, naming the differences, and if its inputs have changed.
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
            if not add:
                folder.plan.check_sources(sources)
            folder.check_inputs()
        else:
            folder.make_plan(sources, shard_size)
        return folder

    @classmethod
    def open(cls, out: Path) -> "RunFolder":
        """Open an existing run.

        Raises `DatasetError` if there is none, and if run.json is damaged or of another schema.
        """
        path = out / "run.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DatasetError(f"{out} holds no run: there is no run.json in it") from error
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path} is damaged: {error}") from error
        return cls(out, RunRecord.from_json(values, str(path)))

    def update(self, **changes: Any) -> None:
        """Replace these fields of `record` in memory; `save` writes it."""
        self.record = dataclasses.replace(self.record, **changes)

    def add_formats(self, names: Sequence[str]) -> None:
        """Add formats, in memory, to those that the run exports at its end."""
        settings = self.record.settings
        formats = tuple(dict.fromkeys([*settings.formats, *names]))
        self.update(settings=dataclasses.replace(settings, formats=formats))

    def save(self) -> None:
        """Write run.json."""
        write_json(self.out / "run.json", self.record.to_json())

    @property
    def planned(self) -> bool:
        """Return whether the plan of the run has been written."""
        return (self.out / "plan.jsonl").exists()

    @property
    def plan(self) -> Plan:
        """The pictures of the run, divided into shards. Raises `DatasetError` if the plan is missing or damaged."""
        if self._plan is None:
            self._plan = Plan(self.out / "plan.jsonl")
        return self._plan

    def make_plan(self, sources: Sequence[Source], shard_size: int | None) -> None:
        """Write the plan. shard_size: pictures per shard; None derives it from their number."""
        size = shard_size or auto_shard_size(len(sources))
        self._plan = Plan.write(self.out / "plan.jsonl", sources, size, self.masks)

    def extend_plan(self, sources: Sequence[Source]) -> None:
        """Append these sources, which have names of their own, to the plan. The caller holds the run's lock."""
        self._plan = self.plan.extend(sources, self.masks)
        self.update(counts=self.record.counts | {"total": self._plan.total})

    @cached_property  # cached because `Masks` lists the whole folder
    def masks(self) -> "Masks | None":
        """The masks of the run; None if it has none. Raises `UsageError` if their folder is missing."""
        from ...engine.inputs.masks import Masks

        folder = self.record.settings.masks
        return None if folder is None else Masks(folder)

    def reader(self, cell: int) -> "Reader":
        """Return the reader of the run's pictures. cell: pixels of one latent cell."""
        from ...engine.inputs.prefetch import Reader
        from ...engine.inputs.sizing import make_sizing

        settings = self.record.settings
        sizing = make_sizing(settings.buckets, settings.native, settings.max_pixels, cell)
        return Reader(
            settings.size, settings.fit, settings.background, cell, self.masks, settings.colour_in_use, sizing
        )

    def check_inputs(self) -> None:
        """Raise `UsageError` naming the input files that have changed; files of pictures that failed may change."""
        self.plan.check_inputs(self.ledger.failed())

    def retry_failed(self) -> None:
        """Return the pictures that failed to the plan, with their files as they are now."""
        if failed := self.ledger.failed():
            self._plan = self.plan.renew(failed, self.masks)
            self.ledger.reopen()

    @property
    def header(self) -> Header:
        """The provenance that the run's shards and datasets state, without classes and splits."""
        return self.record.header()

    def header_for(self, name: str) -> Header:
        """Return the header for one format, with classes and splits if the format needs them.

        Classes are sorted, splits are in the order of the run; those of pictures that failed are included.
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
        """Return the path of the file of a shard, whether or not it exists yet."""
        return self.out / "shards" / f"shard-{number:06d}.h5"

    def unfinished(self) -> list[int]:
        """Return the numbers of the shards that are not started or not complete."""
        finished = self.ledger.shards()
        return [n for n in range(len(self.plan)) if n not in finished or not finished[n].whole]

    def files(self) -> list[Path]:
        """Return the files of the finished shards, in the order of the plan."""
        found = self.ledger.shards().values()
        return [self.out / "shards" / shard.file for shard in found if shard.file is not None]

    def records(self) -> Iterator[list[Record]]:
        """Yield the records of the finished pictures in batches, in the order of the plan."""
        for path in self.files():
            yield from read_records(path)

    def clean(self) -> None:
        """Remove the temporary files of a killed process, and truncate an incomplete last line of the ledger.

        The caller holds the run's lock.
        """
        self.ledger.mend()
        self.clean_shards()
        for name in (*RUN_FILES, *(place for _, _, place in FORMATS.values())):
            for pattern in (f".{Path(name).stem}.partial-*", f".{name}.old-*"):
                for path in self.out.glob(pattern):
                    discard(path)

    def clean_shards(self) -> None:
        """Remove temporary files of shards. The caller holds the run's lock, and no process is making shards."""
        for path in (self.out / "shards").glob(".*.partial-*"):
            discard(path)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the lock of the run in `out`, a folder that is created if it does not exist.

    Raises `UsageError` if another process holds the lock, and if the folder does not belong to a run.
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
    """Raise `UsageError` for a folder that holds files with the names of a run's files but no run.json."""
    if (out / "run.json").exists():
        return
    outputs = [place for _, _, place in FORMATS.values()]
    taken = [name for name in (*RUN_FILES, *outputs) if name != "run.lock" and (out / name).exists()]
    if taken:
        raise UsageError(f"{out} holds {', '.join(taken)} but no run.json: it is no run's folder; choose another OUT")
