"""Formats written while shards are still being made, by a process of its own.

It only saves time: what it does not get done, for whatever reason, is exported afterwards as without it.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..engine.records import Record
from ..engine.runtime.parent_watchdog import end_with_parent
from ..exporters.base.exporter import Exporter, exporter_class, make_exporter
from ..exporters.files.atomic import discard
from ..exporters.hdf5.exporter import read_records
from .executors.spawn import spawn_without_main
from .state.run_folder import RunFolder

log = logging.getLogger(__name__)

DELAY = 60.0  # seconds into a run: a shorter one is exported sooner than another process starts
POLL = 0.5  # seconds between looks at the ledger
NICE = 10  # the engine goes first


class BackgroundExporter:
    """A context manager around the making of shards; `finish`, when all of them are made, says what is written."""

    def __init__(self, out: Path, names: Sequence[str]):
        """names: formats; those that need the whole run at once are left for afterwards."""
        self.out, self.names = out, [name for name in names if exporter_class(name).streams]
        self._process: Any = None
        self._timer = threading.Timer(DELAY, self._start)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        if self.names:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._settle()
        if self._process is not None:
            self._process.kill()  # not asked to end: a handler's exception is lost where Python ignores them, in a __del__
            self._process.join()
            for path in self.out.glob(f".*.partial-{self._process.pid}*"):
                discard(path)

    def finish(self) -> list[str]:
        """The formats that are at their places, from all shards and from run.json as it is now."""
        self._settle()
        if self._process is None:
            return []
        try:
            self._pipe.send(None)
            written: list[str] = self._pipe.recv()
        except (OSError, EOFError):
            log.info("the process that exports beside the run has died; exporting now")
            return []
        return written

    def _settle(self) -> None:
        self._timer.cancel()
        if self._timer.ident is not None:
            self._timer.join()  # it may be starting the process

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # neither CUDA nor OpenMP survives a fork
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_export, args=(self.out, self.names, theirs))
        with spawn_without_main():
            self._process.start()
        theirs.close()


def _export(out: Path, names: list[str], pipe: Any) -> None:
    """In the new process, which may be killed at any time. What fails is given up without a word: the parent will meet
    the error itself, and say so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    end_with_parent()
    os.nice(NICE)
    folder, written = RunFolder.open(out), []
    open_ones: dict[str, Exporter] = {}
    for name in names:
        exporter = make_exporter(name, out, folder.header_for(name))
        with contextlib.suppress(Exception):
            open_ones[name] = exporter.__enter__()
    for records in _finished(folder):
        for name, exporter in list(open_ones.items()):
            try:
                exporter.write(records)
            except Exception as error:
                del open_ones[name]
                exporter.__exit__(type(error), error, None)
    pipe.recv()  # the parent's word that run.json is up to date
    latents = RunFolder.open(out).header.latents
    for name, exporter in open_ones.items():
        exporter.header = replace(exporter.header, latents=latents)
        with contextlib.suppress(Exception):
            exporter.__exit__(None, None, None)
            written.append(name)
    pipe.send(written)


def _finished(folder: RunFolder) -> Iterator[list[Record]]:
    """All pictures of the run in its order, as their shards get done."""
    ledger, size, shards = folder.ledger, -1, folder.ledger.shards()
    for number in range(len(folder.plan)):
        while number not in shards or not shards[number].whole:
            now = ledger.path.stat().st_size if ledger.path.exists() else 0
            if now == size:
                time.sleep(POLL)
            else:
                size, shards = now, ledger.shards()
        if shards[number].file is not None:
            yield from read_records(folder.shard_path(number))
