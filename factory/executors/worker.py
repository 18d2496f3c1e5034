"""The worker that makes shards: the engine with the settings of a run, in one process."""

import dataclasses
import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.autoencoders.loading import load_autoencoder
from ...engine.errors import UsageError
from ...engine.inputs.prefetch import auto_workers, prefetch
from ...engine.inputs.sizes import Size
from ...engine.inputs.sources import Source
from ...engine.inputs.views import run_views
from ...engine.optimization.batcher import Batcher
from ...engine.optimization.config import OptimizationConfig
from ...engine.records import Failure, Record
from ..state.ledger import Shard
from ..state.record import identity_differences
from ..state.run_folder import RunFolder
from .shard_writer import ShardWriter, kept_names

OnOutcomes = Callable[[list[Record | Failure]], None]


@dataclass
class WorkerStatistics:
    """Time and resources that making shards took, in one process or summed over several."""

    seconds: dict[str, float] = field(default_factory=dict)  # by phase
    wall: float = 0.0  # wall-clock seconds from start to end
    engine: dict[str, Any] = field(default_factory=dict)  # how the engine ran
    processes: set[str] = field(default_factory=set)

    def add(self, other: "WorkerStatistics") -> None:
        """Add the statistics of another process."""
        for phase, value in other.seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + value
        self.wall += other.wall
        self.engine = _later(self.engine, other.engine)
        self.processes |= other.processes

    def describe(self) -> dict[str, Any]:
        """Return the description of the engine for run.json; empty if the engine has not run."""
        if not self.engine:
            return {}
        busy = sum(self.seconds.get(phase, 0.0) for phase in ("encode", "compile", "optimize"))
        idle = max(1 - busy / self.wall, 0.0)
        return self.engine | {"processes": len(self.processes), "idle_share": round(idle, 4)}


def _later(engine: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Return how the engine ran, by its later description, with the larger peak memory of both. Either may be empty."""
    peaks = [one["peak_memory_bytes"] for one in (engine, later) if one]
    return engine | later | ({"peak_memory_bytes": max(peaks)} if peaks else {})


@dataclass
class ShardResult:
    """A shard made by another process, with the statistics of making it."""

    shard: Shard
    statistics: WorkerStatistics


class ShardWorker:
    """Worker that makes shards of `folder`'s plan, each from its pictures alone.

    The result does not depend on which worker makes a shard, nor on when. When the first picture of a shard arrives,
    all slots of the engine are empty, so that batches are the same too.
    """

    def __init__(
        self,
        folder: RunFolder,
        autoencoder: Autoencoder,
        config: OptimizationConfig,
        workers: int | None = None,
        processes: int = 1,
    ):
        """Build the engine for the run.

        config: the run's own, passed in memory since a loss may be a function.
        workers: number of processes that read pictures; None chooses it, for a machine with `processes` workers.
        """
        record, settings = folder.record, folder.record.settings
        self.folder = folder
        self.autoencoder = autoencoder
        self.workers = auto_workers(autoencoder.device.type, processes) if workers is None else workers
        # a run that is resumed on another machine keeps its precision
        self.config = dataclasses.replace(config, precision=record.precision)
        self.seconds = defaultdict[str, float](float)  # by phase, over all batchers
        self.on_progress: Callable[[float], None] | None = None  # see `Batcher`
        self._engine: dict[str, Any] = {}
        self._batcher: tuple[Size | None, Batcher] | None = None
        torch.manual_seed(settings.seed)
        self._reported_seconds = dict[str, float]()  # seconds by phase that earlier calls of statistics() returned
        self._started = time.perf_counter()

    @classmethod
    def open(
        cls, out: Path, device: str | None = None, workers: int | None = None, processes: int = 1
    ) -> "ShardWorker":
        """Build a worker from the files on disk alone, in any process on any machine that sees them."""
        folder = RunFolder.open(out)
        config = folder.record.optimization_config()
        return cls(folder, reload_autoencoder(folder, device), config, workers, processes)

    def make(
        self,
        numbers: Sequence[int],
        commit: Callable[[Shard], None],
        on_outcomes: OnOutcomes = lambda _: None,
    ) -> None:
        """Make these shards one after the other, with pictures prefetched and files written asynchronously.

        commit: called with each shard once it is on disk, from another thread.
        on_outcomes: called with pictures as they are finished; an exception that it raises stops the work.
        However the work ends, what was finished is kept and committed.
        """
        self._started = time.perf_counter()
        work = _Work(self.folder, numbers)
        reader = self.folder.reader(self.autoencoder.cell)
        reading = closing(
            prefetch(reader, work.keys(), work.source, self.workers)
        )  # however it ends, its processes end
        with reading as pictures, ThreadPoolExecutor(1, "shards") as background:
            last = None
            for number in numbers:
                shard = ShardWriter(self.folder, number, work.kept[number], background, commit)
                batcher = self._batcher_for(number)
                try:
                    for outcomes in batcher.batches(pictures, work.count(number)):
                        self._timed_write(shard.add, outcomes)
                        on_outcomes(outcomes)
                    if number == 0:  # the sample of the report is taken from the first pictures of the run
                        self._timed_write(shard.flush)
                        shard.report.decode(self.autoencoder, self.config.precision)
                    if last is not None:
                        self._timed_write(last.result)
                except BaseException:
                    shard.commit_partial(batcher.finished())
                    raise
                self._engine = _later(self._engine, batcher.engine)
                last = shard.finish()
            if last is not None:
                self._timed_write(last.result)

    def _batcher_for(self, number: int) -> Batcher:
        """Return the batcher for the size of a shard's targets. One is kept: the shards of a size follow each other."""
        size = self.folder.plan.size(number)
        if self._batcher is None or self._batcher[0] != size:
            record, settings = self.folder.record, self.folder.record.settings
            batcher = Batcher(
                self.autoencoder,
                self.config,
                size or settings.size or self.autoencoder.native_size,
                settings.fit,
                settings.background,
                record.batch_size if isinstance(record.batch_size, int) else None,
                settings.keep_images,
                run_views(settings.flip),
                self.folder.masks,
                settings.colour_in_use,
                capacity=self.folder.plan.most_rows(size),
                on_progress=self.on_progress,
                seconds=self.seconds,
            )
            self._batcher = size, batcher
        return self._batcher[1]

    def make_one(self, number: int) -> ShardResult:
        """Make one shard, and return it once it is on disk."""
        shards: list[Shard] = []
        self.make([number], shards.append)
        return ShardResult(shards[0], self.statistics())

    def statistics(self) -> WorkerStatistics:
        """Return the statistics of what was made since the previous call."""
        now = dict(self.seconds)
        seconds = {phase: value - self._reported_seconds.get(phase, 0.0) for phase, value in now.items()}
        self._reported_seconds = now
        process = f"{os.getpid()} on {socket.gethostname()}"
        return WorkerStatistics(seconds, time.perf_counter() - self._started, self._engine, {process})

    def _timed_write(self, act: Callable[..., Any], *arguments: Any) -> None:
        """Call `act`, and add the time that it takes to the phase `write`."""
        begin = time.perf_counter()
        act(*arguments)
        self.seconds["write"] += time.perf_counter() - begin


class _Work:
    """The pictures to process, by shard and row; also sent to the processes that prefetch them."""

    def __init__(self, folder: RunFolder, numbers: Sequence[int]):
        self.plan, self.numbers = folder.plan, numbers
        begun = folder.ledger.shards()  # read once, however many shards there are
        self.kept = {number: kept_names(folder, begun.get(number)) for number in numbers}

    def keys(self) -> Iterator[tuple[int, int]]:
        """Yield the keys (shard, row) of the pictures in order; evaluated lazily as pictures are read."""
        for number in self.numbers:
            kept = self.kept[number]
            rows = self.plan.rows(number)
            yield from ((number, index) for index, row in enumerate(rows) if row.source.name not in kept)

    def source(self, key: tuple[int, int]) -> Source:
        """Return the source of a key."""
        number, index = key
        return self.plan.rows(number)[index].source

    def count(self, number: int) -> int:
        """Return the number of keys of a shard."""
        kept = self.kept[number]
        return sum(row.source.name not in kept for row in self.plan.rows(number))


def reload_autoencoder(folder: RunFolder, device: str | None = None) -> Autoencoder:
    """Load the autoencoder of a run by its recorded name.

    Raises `UsageError` if it cannot be loaded by name, or if a different one is found.
    """
    settings, identity = folder.record.settings, folder.record.vae
    if settings.vae is None:
        raise UsageError(
            f"{folder.out} was made with an autoencoder from memory, {identity['name']!r}: go on with the same call of "
            "optimize_directory, which continues what it finds"
        )
    autoencoder = load_autoencoder(settings.vae, weights=settings.weights, device=device or settings.device)
    check_identity(folder, autoencoder)
    return autoencoder


def check_identity(folder: RunFolder, autoencoder: Autoencoder) -> None:
    """Raise `UsageError` unless the autoencoder is that of the run."""
    differences = identity_differences(folder.record.vae, autoencoder.identity())
    if differences:
        raise UsageError(f"the autoencoder is another than that of {folder.out}: {'; '.join(differences)}")
