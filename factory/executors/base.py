"""The choice of executor: this process, one process per device, or Ray. The results do not depend on the choice."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import torch

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.errors import UsageError
from ...engine.optimization.config import OptimizationConfig
from ...engine.runtime.one_time import listening
from ..state.counters import RunCounters
from ..state.progress import Progress
from ..state.run_folder import RunFolder
from .multiprocess import in_processes, resolve_devices
from .ray import check_ray, on_ray
from .worker import ShardResult, ShardWorker, WorkerStatistics


@dataclass(frozen=True)
class ExecutionOptions:
    """How a run is executed.

    workers: number of processes that read pictures, per device; None chooses it automatically.
    devices: number of processes that optimise, one per GPU (on CPU, just as many processes), or `auto`; None optimises
    in
        this process.
    ray: address of a Ray cluster, `auto` for the cluster this machine belongs to, `local` for one started for the run.
    max_failures: the run stops when more pictures than this have failed.
    progress: show a progress bar on stderr.
    device: the device as requested; on Ray, `cpu` leaves the cluster's GPUs unused.
    """

    workers: int | None = None
    devices: int | str | None = None
    ray: str | None = None
    max_failures: int | None = None
    progress: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "max_failures"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UsageError(f"{name}: expected a whole number of at least 0, found {value}")
        if self.devices not in (None, "auto") and (not isinstance(self.devices, int) or self.devices < 1):
            raise UsageError(f"devices: expected a whole number of at least 1, or auto, found {self.devices!r}")
        if self.devices is not None and self.ray is not None:
            raise UsageError("devices and ray exclude each other: Ray finds its devices itself")

    @property
    def remote(self) -> bool:
        """Return whether processes other than this one optimise."""
        return self.devices is not None or self.ray is not None

    def check(self, device: torch.device) -> None:
        """Raise `UsageError` for devices or a cluster that are not available. device: that of the autoencoder."""
        if self.devices is not None:
            resolve_devices(self.devices, device)
        if self.ray is not None:
            check_ray(self.ray)


def make_shards(
    folder: RunFolder,
    numbers: list[int],
    autoencoder: Autoencoder,
    config: OptimizationConfig,
    execution: ExecutionOptions,
    seconds: dict[str, float],
) -> None:
    """Make the shards `numbers`, and append each to the ledger when it is finished.

    seconds: elapsed time by phase, added to.
    """
    folder.update(status="running")
    folder.save()
    with Progress(folder.plan.total, execution.progress) as bar, listening(bar.one_time):
        _make_shards(folder, numbers, autoencoder, config, execution, bar, seconds)


def _make_shards(
    folder: RunFolder,
    numbers: list[int],
    autoencoder: Autoencoder,
    config: OptimizationConfig,
    execution: ExecutionOptions,
    bar: Progress,
    seconds: dict[str, float],
) -> None:
    """Run the executor, and record its counts and statistics however it ends."""
    counters = RunCounters(folder, bar, execution.max_failures)
    statistics = WorkerStatistics()
    try:
        if execution.remote:
            with closing(_run_in_other_processes(folder, numbers, autoencoder.device, execution)) as results:
                for result in results:
                    folder.ledger.add_shard(result.shard)
                    statistics.add(result.statistics)
                    counters.shard(result.shard)
            return
        worker = ShardWorker(folder, autoencoder, config, execution.workers)
        worker.on_progress = bar.within
        try:
            worker.make(numbers, folder.ledger.add_shard, counters.outcomes)
        finally:
            statistics = worker.statistics()
    finally:
        if execution.remote:
            folder.clean_shards()  # temporary files of worker processes that were terminated
        seconds |= statistics.seconds
        if engine := statistics.describe():
            folder.update(engine=engine)


def _run_in_other_processes(
    folder: RunFolder, numbers: list[int], device: torch.device, execution: ExecutionOptions
) -> Generator[ShardResult, None, None]:
    """Return the results of the executor that runs in other processes, as a generator to be closed."""
    if execution.ray is not None:
        return on_ray(folder.out, numbers, execution.ray, execution.workers, execution.device != "cpu")
    devices = resolve_devices(execution.devices or "auto", device)
    return in_processes(folder.out, numbers, devices, execution.workers)
