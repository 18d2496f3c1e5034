"""Formats from a run's shards, without optimising again."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..exporters.base.exporter import FORMATS, exporter_class, make_exporter
from ..exporters.files.atomic import file_sha256
from ..exporters.files.checksums import SUMS
from .state.run_folder import RunFolder, locked

log = logging.getLogger(__name__)


def export_run(folder: RunFolder, name: str, destination: Path | None = None, single_file: bool | None = None) -> Path:
    """Write one format from the run's shards, and its checksum into the ledger; return where it is.

    destination: None: the format's usual place in the run's folder. single_file: whether a format that can point to the
    shards holds everything itself; None: as the run was told. At another place than the usual one it always does, so
    that it can be moved anywhere. The caller holds the run's lock. Raises `UsageError` where nothing is finished, and
    where the format does not fit on this machine.
    """
    exporter = exporter_class(name)
    place = folder.out / FORMATS[name][2]
    if single_file is None:
        single_file = folder.record.settings.single_file
    if destination is not None and destination.resolve() != place.resolve():
        place, single_file = destination, True
    header = folder.header_for(name)
    if single_file or not exporter.write_from_shards(place, folder.files(), header):
        exporter.check_shards(folder.files())
        with make_exporter(name, folder.out, header, place) as output:
            for records in folder.records():
                output.write(records)
    _record(folder, name, place, single_file if exporter.links_shards else None)
    return place


def record_export(folder: RunFolder, name: str) -> Path:
    """Enter a format that another process has written to its usual place into the ledger; return where it is."""
    place = folder.out / FORMATS[name][2]
    _record(folder, name, place)
    return place


@contextmanager
def export_lock(folder: RunFolder) -> Iterator[None]:
    """Hold the run's lock while an export of `relatent export` goes on; without one where the folder is read-only."""
    if not os.access(folder.out, os.W_OK):
        yield
        return
    with locked(folder.out):
        folder.clean()
        yield


def _record(folder: RunFolder, name: str, place: Path, single_file: bool | None = None) -> None:
    """Enter an output and its checksum into the ledger, where that can be written to."""
    if not os.access(folder.ledger.path, os.W_OK):
        log.warning("%s cannot be written to: `relatent verify` will not know of %s", folder.ledger.path, place)
        return
    out, found = folder.out.resolve(), place.resolve()
    path = found.relative_to(out).as_posix() if found.is_relative_to(out) else str(found)
    summed = found / SUMS if found.is_dir() else found
    digest, size = (file_sha256(summed), summed.stat().st_size) if summed.is_file() else (None, 0)
    folder.ledger.add_export(name, path, digest, size, single_file)
