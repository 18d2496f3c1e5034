"""Cells prepared in processes of their own, side by side, and measured one at a time, in order, alone on the device."""

import contextlib
import fcntl
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from ...engine.errors import first_line
from ...engine.runtime.device import usable_processors
from .section import Cell, Rates, Result, Section
from .sections import SECTIONS

MOST_TEXT = 6000  # characters of a failure's traceback that are kept
PREPARE_SHARE = 0.45  # of the budget: after it cells are measured although others are still being prepared


def failure(error: BaseException) -> Result:
    """Return the result of a cell that failed: kind, message and place in one line, and the end of the whole text."""
    places = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(places[-1].filename).name}:{places[-1].lineno})" if places else ""
    text = "".join(traceback.format_exception(error))
    return {"error": f"{type(error).__name__}: {first_line(error)}{where}", "traceback": text[-MOST_TEXT:]}


def measure_here(section: Section, cell: Cell, device: torch.device, quick: bool, rates: Rates) -> Result:
    """Prepare and measure one cell in this process; an error is returned under "error"."""
    try:
        return section.prepare(device, quick, **cell.arguments)(rates)
    except Exception as error:
        return failure(error)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep every other measurement of this user on this machine waiting."""
    with open(Path(tempfile.gettempdir()) / f"relatent-gpu-{os.getuid()}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _serve(connection: Connection, section: str, cell: Cell, device: str, quick: bool) -> None:
    """Run in the process of a cell: prepare it, say "ready", wait for the rates, measure, and send the result."""
    begin = time.perf_counter()
    module, where = SECTIONS[section], torch.device(device)
    measurement = None
    if where.type == "cuda":
        torch.cuda.set_device(where)  # on which events are recorded
    try:
        measurement = module.prepare(where, quick, **cell.arguments)
    except torch.OutOfMemoryError:
        pass  # too many at once: again when it is alone
    except Exception as error:
        connection.send(failure(error))
        return
    if where.type == "cuda":
        torch.cuda.empty_cache()
    seconds = time.perf_counter() - begin
    connection.send("ready")
    rates = connection.recv()
    try:
        with alone():
            result = (measurement or module.prepare(where, quick, **cell.arguments))(rates)
    except Exception as error:
        result = failure(error)
    connection.send(result | {"prepare_seconds": seconds})


class Job:
    """The process of one cell. state: preparing, ready, measuring, skipped."""

    def __init__(self, cell: Cell, device: torch.device, quick: bool):
        context = multiprocessing.get_context("spawn")
        self.cell, self.state = cell, "preparing"
        self.beside = False  # whether others were being prepared when it began to measure
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, cell.section, cell, str(device), quick))
        self.process.start()
        theirs.close()

    def go(self, rates: Rates) -> None:
        """Let it measure."""
        self.state = "measuring"
        with contextlib.suppress(OSError):  # it has died, which `receive` finds
            self.connection.send(rates)

    def receive(self) -> Result | None:
        """Return the result, if what the process has sent is one or it is gone."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return {"error": f"the process ended with exit status {self.process.exitcode}"}
        if message != "ready":
            return dict(message)
        self.state = "ready"
        return None

    def end(self) -> None:
        """End the process, however far it is."""
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


def measure_all(
    plan: list[Cell], device: torch.device, quick: bool, deadline: float, jobs: int,
    found: Callable[[Cell, Result], None], rates: Callable[[], Rates],
) -> list[Cell]:  # fmt: skip
    """Prepare the cells, `jobs` at a time, and measure them in order; returns those that no time was left for.

    deadline: of `time.monotonic()`; a measurement that would not end before it is not begun. found: called with each
    result, errors included. rates: called for the ceilings that a measurement is told. At a twentieth of the budget after the
    deadline what still runs is ended.
    """
    budget = deadline - time.monotonic()
    settled = deadline - (1.0 - PREPARE_SHARE) * budget
    pending, running, skipped = list(plan), list[Job](), list[Cell]()
    try:
        while pending or running:
            while pending and sum(job.state == "preparing" for job in running) < jobs:
                running.append(Job(pending.pop(0), device, quick))
            _give_way(running, bool(pending), settled, deadline, skipped, rates)
            if time.monotonic() > deadline:
                skipped += pending
                pending = []
            wait([job.connection for job in running], timeout=0.5)
            late = time.monotonic() > deadline + 0.05 * budget
            for job in list(running):
                result: Any = {"error": "ended: it took too long"} if late else None
                if result is None and job.connection.poll():
                    result = job.receive()
                if job.state == "skipped" or result is not None:
                    running.remove(job)
                    job.end()  # by a signal: left to itself, a process that has compiled takes seconds to end
                if result is not None:
                    found(job.cell, result | ({"beside_preparations": True} if job.beside else {}))
    finally:
        for job in running:
            job.end()
    return skipped


def _give_way(
    running: list[Job], more: bool, settled: float, deadline: float, skipped: list[Cell], rates: Callable[[], Rates]
) -> None:
    """Let the next cell measure where nothing else does; cells for which too little time is left are done."""
    now = time.monotonic()
    if any(job.state == "measuring" for job in running):
        return
    if now < settled and (more or any(job.state == "preparing" for job in running)):
        return
    for job in running:
        if job.state in ("ready", "preparing") and now + job.cell.seconds > deadline:
            job.state = "skipped"
            skipped.append(job.cell)
        elif job.state == "ready":
            job.beside = any(other.state == "preparing" for other in running)
            job.go(rates())
            return


def default_jobs() -> int:
    """Return how many cells are prepared at once: three for four processors."""
    return max(1, 3 * usable_processors() // 4)
