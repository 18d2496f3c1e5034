"""More than one device on one machine: a process for each, over one plan, through the standard library's pool."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from ..engine.device import usable_processors
from ..engine.errors import RunStoppedError, UsageError
from .ledger import Shard
from .workshop import Workshop

_workshop: Workshop | None = None  # of this process


def resolve_devices(devices: int | str, device: str | None) -> list[str]:
    """One name for each process: CUDA's devices in turn, or so many times `cpu`. `auto`: all that are there.

    Raises `UsageError` for more GPUs than there are.
    """
    on_cpu = str(device).startswith("cpu") or not torch.cuda.is_available()
    there = 1 if on_cpu else torch.cuda.device_count()
    count = there if devices == "auto" else devices
    if not isinstance(count, int) or count < 1:
        raise UsageError(f"devices: expected a whole number of at least 1, or auto, found {devices!r}")
    if not on_cpu and count > there:
        raise UsageError(f"devices: {count} asked for, {there} CUDA devices are there; use auto")
    return ["cpu"] * count if on_cpu else [f"cuda:{index}" for index in range(count)]


def in_processes(out: Path, numbers: Sequence[int], devices: list[str], workers: int | None) -> Iterator[Shard]:
    """These shards as they get done. Raises `RunStoppedError` where a process died; what the others had finished by then
    has been given out."""
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    names: Any = context.SimpleQueue()
    for name in devices:
        names.put(name)
    pool = ProcessPoolExecutor(len(devices), context, _begin, (out, names, workers, len(devices)))
    waiting = {pool.submit(_make, number) for number in numbers}
    try:
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise RunStoppedError(
            f"one of {len(devices)} processes died; its shard is not lost: `relatent resume {out}` goes on"
        ) from error
    finally:
        for process in list((pool._processes or {}).values()):
            process.terminate()  # an interruption does not wait for the shards in flight: they are done again
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(out: Path, names: Any, workers: int | None, processes: int) -> None:
    global _workshop
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    name = names.get()
    if name == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, usable_processors() // processes))
    _workshop = Workshop.open(out, name, workers, processes)


def _make(number: int) -> Shard:
    assert _workshop is not None
    return _workshop.make_one(number)
