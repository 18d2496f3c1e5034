"""Executor for several devices on one machine: one worker process per device, sharing one plan, in a process pool."""

import multiprocessing
import os
import signal
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from ...engine.errors import RunStoppedError, UsageError
from ...engine.runtime.device import usable_processors
from ...engine.runtime.parent_watchdog import end_with_parent
from .spawn import spawn_without_main
from .worker import ShardResult, ShardWorker

# globals of a worker process
_settings: tuple[Path, str, int | None, int]
_worker: ShardWorker | None = None


def resolve_devices(devices: int | str, device: torch.device) -> list[str]:
    """Return one device name per process: the CUDA devices in turn, or `cpu` repeated. `auto` selects all devices.

    device: the run's device, of which only the type counts. Raises `UsageError` for more GPUs than are available.
    """
    there = torch.cuda.device_count() if device.type == "cuda" else 1
    count = there if devices == "auto" else int(devices)
    if device.type != "cpu" and count > there:
        raise UsageError(f"devices: {count} asked for, {there} of {device.type} there; use auto, or --device cpu")
    return [f"cuda:{index}" if device.type == "cuda" else device.type for index in range(count)]


def in_processes(
    out: Path, numbers: Sequence[int], devices: Sequence[str], workers: int | None
) -> Generator[ShardResult, None, None]:
    """Make the shards in worker processes and yield each when it is finished; the generator has to be closed.

    Raises what a worker raises, and `RunStoppedError` if a worker died. Results that the other workers had returned by
    then are yielded first.
    """
    devices = devices[: len(numbers)]
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    names = context.SimpleQueue()
    for name in devices:
        names.put(name)
    pool = ProcessPoolExecutor(len(devices), context, _begin, (names, out, workers, len(devices)))
    processes: list[Any] = []
    try:
        with spawn_without_main():
            waiting = {pool.submit(_make, number) for number in numbers}  # submitting starts the processes
        processes = list(pool._processes.values())
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in sorted(done, key=_failed))
    except BrokenProcessPool as error:
        raise RunStoppedError(
            f"one of {len(devices)} processes died{_cause(processes)}; what was finished is kept, "
            f"`relatent resume {out}` goes on"
        ) from error
    finally:
        # an interruption does not wait for the shards in flight, they are made again; Python 3.14 has terminate_workers()
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _failed(future: Future[ShardResult]) -> bool:
    """Return whether the future ended with an exception."""
    return future.exception() is not None


def _cause(processes: list[Any]) -> str:
    """Return the signal that ended one of the processes, other than SIGTERM, with which the pool ends the rest."""
    for process in processes:
        process.join()  # the pool has terminated all of them
        # exitcode is None if the pool's own thread collected it first
        if (number := -(process.exitcode or 0)) > 0 and number != signal.SIGTERM:
            memory = ", out of memory?" if number == 9 else ""
            return f" ({signal.Signals(number).name}{memory})"
    return ""


def _begin(names: Any, out: Path, workers: int | None, processes: int) -> None:
    """Initialise a worker process: assign its device and its share of the processors."""
    global _settings
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    name = names.get()
    if name.startswith("cuda"):
        torch.cuda.set_device(name)  # otherwise each process would also allocate memory on the first GPU
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, usable_processors() // processes))
    _settings = (out, name, workers, processes)


def _make(number: int) -> ShardResult:
    """Make one shard in a worker process."""
    global _worker
    if _worker is None:  # not in _begin, since errors of an initializer do not reach the parent
        _worker = ShardWorker.open(*_settings)
    return _worker.make_one(number)
