"""Formats from a run's shards, without optimising again."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..exporters.base.exporter import FORMATS, check_formats, make_exporter
from ..exporters.files.atomic import file_sha256
from ..exporters.files.checksums import SUMS
from .state.run_folder import RunFolder, locked

log = logging.getLogger(__name__)


def export_run(folder: RunFolder, name: str, destination: Path | None = None, single_file: bool | None = None) -> Path:
    """Write one format from the run's shards, and its checksum into the ledger. Only for who holds the run's lock.

    single_file: whether hdf5 holds everything itself instead of pointing to the shards; None: as the run was told. A
    destination of one's own always does, so that it can go anywhere.
    Returns where it is. Raises `UsageError` where nothing is finished, or where it does not fit in memory (pt).
    """
    check_formats([name])
    place = folder.out / FORMATS[name][2]
    if single_file is None:
        single_file = folder.record.settings.single_file
    if destination is not None and destination.resolve() != place.resolve():
        place, single_file = destination, True
    if name == "hdf5" and not single_file:
        from ..exporters.hdf5.virtual import write_virtual

        write_virtual(place, folder.files(), folder.header)
    else:
        if name == "pt":
            from ..exporters.formats.pt import check_memory, shard_bytes

            check_memory(shard_bytes(folder.files()))
        with make_exporter(name, folder.out, folder.header_for(name), place) as exporter:
            for records in folder.records():
                exporter.write(records)
    _record(folder, name, place, single_file if name == "hdf5" else None)
    return place


def record_export(folder: RunFolder, name: str) -> Path:
    """Of a format that another process has written to its usual place: its checksum into the ledger; -> where it is."""
    place = folder.out / FORMATS[name][2]
    _record(folder, name, place)
    return place


@contextmanager
def export_lock(folder: RunFolder) -> Iterator[None]:
    """The run's lock, where its folder can be written to, for an export from the outside."""
    if not os.access(folder.out, os.W_OK):
        yield
        return
    with locked(folder.out):
        folder.clean()
        yield


def _record(folder: RunFolder, name: str, place: Path, single_file: bool | None = None) -> None:
    if not os.access(folder.ledger.path, os.W_OK):
        log.warning("%s cannot be written to: `relatent verify` will not know of %s", folder.ledger.path, place)
        return
    out, found = folder.out.resolve(), place.resolve()
    path = found.relative_to(out).as_posix() if found.is_relative_to(out) else str(found)
    summed = found / SUMS if found.is_dir() else found
    digest, size = (file_sha256(summed), summed.stat().st_size) if summed.is_file() else (None, 0)
    folder.ledger.add_export(name, path, digest, size, single_file)
