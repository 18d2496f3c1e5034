"""Export of further formats from the shards of a run, without optimising again."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..engine.errors import UsageError
from ..engine.runtime.atomic import file_sha256
from ..exporters.base.exporter import FORMATS, exporter_class, make_exporter
from ..exporters.files.checksums import SUMS
from .state.run_folder import RunFolder, locked

log = logging.getLogger(__name__)


def export_run(folder: RunFolder, name: str, destination: Path | None = None, single_file: bool | None = None) -> Path:
    """Write one format from the run's shards, append its checksum to the ledger, and return its path.

    destination: None selects the format's usual place in the run's folder; "." and ".." are the folders that they lead to.
    single_file: whether a format that can be a virtual dataset over the shards is self-contained instead; None uses the
        run's own setting. At a place other than the usual one it is always self-contained, so that it can be moved
        anywhere.
    The caller holds the run's lock. Raises `UsageError` if no picture is finished, if a file that is no such export is at
    `destination`, if that is the root folder, and if this machine does not have the capacity for the format.
    """
    if destination is not None and destination.name in ("", ".."):
        destination = destination.resolve()
        if not destination.name:
            raise UsageError(f"{destination} is no place for {name}: choose another DEST")
    exporter = exporter_class(name)
    place = folder.out / FORMATS[name][2]
    if single_file is None:
        single_file = folder.record.settings.single_file
    if destination is not None and destination.resolve() != place.resolve():
        place, single_file = destination, True
        if place.is_file() and exporter.run_began(place) is None:
            raise UsageError(f"{place} is there, and is no {name} of relatent: choose another DEST, or move it away")
    header = folder.header_for(name)
    if single_file or not exporter.write_from_shards(place, folder.files(), header):
        exporter.check_shards(folder.files())
        with make_exporter(name, folder.out, header, place) as output:
            for records in folder.records():
                output.write(records)
    _record(folder, name, place, single_file if exporter.links_shards else None)
    return place


def record_export(folder: RunFolder, name: str) -> Path:
    """Add a format that another process wrote to its usual place to the ledger, and return its path."""
    place = folder.out / FORMATS[name][2]
    _record(folder, name, place)
    return place


@contextmanager
def export_lock(folder: RunFolder) -> Iterator[None]:
    """Hold the run's lock during an export by `relatent export`; no lock is taken if the folder is read-only."""
    if not os.access(folder.out, os.W_OK):
        yield
        return
    with locked(folder.out):
        folder.clean()
        yield


def _record(folder: RunFolder, name: str, place: Path, single_file: bool | None = None) -> None:
    """Append an output and its checksum to the ledger, if the ledger is writable."""
    if not os.access(folder.ledger.path, os.W_OK):
        log.warning("%s cannot be written to: `relatent verify` will not know of %s", folder.ledger.path, place)
        return
    out, found = folder.out.resolve(), place.resolve()
    path = found.relative_to(out).as_posix() if found.is_relative_to(out) else str(found)
    summed = found / SUMS if found.is_dir() else found
    digest, size = (file_sha256(summed), summed.stat().st_size) if summed.is_file() else (None, 0)
    folder.ledger.add_export(name, path, digest, size, single_file)
