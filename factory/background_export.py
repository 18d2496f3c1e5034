"""Formats exported by a background process while shards are still being made.

It only saves time: a format that the process does not finish, for whatever reason, is exported at the end of the run.
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
from ..engine.runtime.atomic import discard
from ..engine.runtime.parent_watchdog import end_with_parent
from ..exporters.base.exporter import Exporter, exporter_class, make_exporter
from ..exporters.hdf5.reading import read_records
from .executors.spawn import spawn_without_main
from .state.run_folder import RunFolder

log = logging.getLogger(__name__)

DELAY = 60.0  # seconds until the process starts: a shorter run is exported before the process would be ready
POLL = 0.5  # seconds between polls of the ledger
NICE = 10  # added to the process's niceness, so that the engine has priority


class BackgroundExporter:
    """Context manager that exports formats in a background process while shards are made inside its block.

    Call `finish` once all shards are made, to learn which formats have been written.
    """

    def __init__(self, out: Path, names: Sequence[str]):
        """Prepare the export of the formats `names`, without those that can only be written at the end of the run."""
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
        self._stop_timer()
        if self._process is not None:
            # killed, not terminated: Python ignores an exception that a signal handler raises within a __del__
            self._process.kill()
            self._process.join()
            for path in self.out.glob(f".*.partial-{self._process.pid}*"):
                discard(path)

    def finish(self) -> list[str]:
        """Return the formats that were published, written from all shards and from run.json as it is now."""
        self._stop_timer()
        if self._process is None:
            return []
        try:
            self._pipe.send(None)
            written: list[str] = self._pipe.recv()
        except (OSError, EOFError):
            log.info("the process that exports beside the run has died; exporting now")
            return []
        return written

    def _stop_timer(self) -> None:
        """Cancel the delayed start of the process, or wait for it to complete."""
        self._timer.cancel()
        if self._timer.ident is not None:
            self._timer.join()  # it may be starting the process at this moment

    def _start(self) -> None:
        """Start the background process."""
        context = multiprocessing.get_context("spawn")  # neither CUDA nor OpenMP survives a fork
        self._pipe, child = context.Pipe()
        self._process = context.Process(target=_export, args=(self.out, self.names, child))
        with spawn_without_main():
            self._process.start()
        child.close()


def _export(out: Path, names: list[str], pipe: Any) -> None:
    """Write the formats; runs in the background process, which may be killed at any time.

    A format that fails is dropped here: the parent exports it at the end of the run, meets the same error and reports
    it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    end_with_parent()
    os.nice(NICE)
    folder = RunFolder.open(out)
    exporters: dict[str, Exporter] = {}
    for name in names:
        exporter = make_exporter(name, out, folder.header_for(name))
        with _giving_up(name):
            exporter.begin()
            exporters[name] = exporter
    for records in _finished_records(folder):
        for name in list(exporters):
            with _giving_up(name):
                try:
                    exporters[name].write(records)
                except Exception:
                    exporters.pop(name).rollback()
                    raise
    pipe.recv()  # the parent has brought run.json up to date
    latents, written = RunFolder.open(out).header.latents, []
    for name, exporter in exporters.items():
        exporter.header = replace(exporter.header, latents=latents)
        with _giving_up(name):
            exporter.commit()
            written.append(name)
    pipe.send(written)


@contextlib.contextmanager
def _giving_up(name: str) -> Iterator[None]:
    """Log an exception raised in the block instead of propagating it."""
    try:
        yield
    except Exception as error:
        log.info("%s is not exported beside the run: %s", name, error)


def _finished_records(folder: RunFolder) -> Iterator[list[Record]]:
    """Yield all records of the run in the order of its plan, each as soon as its shard is finished."""
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
