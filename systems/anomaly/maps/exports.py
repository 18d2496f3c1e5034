"""What a run of maps writes at its end, from its shards."""

from pathlib import Path
from typing import Any

from ....engine.runtime.atomic import file_sha256
from ....factory.state.ledger import Ledger
from .map_file import map_file
from .npy_files import write_npy
from .reader import MapReader
from .run_record import LEDGER, SHARDS
from .virtual_file import write_virtual

FORMATS = {"hdf5": "maps.h5", "npy": "maps"}  # names -> places in the run's folder


def write_exports(out: Path, record: dict[str, Any], single_file: bool = False) -> dict[str, str]:
    """Write the run's formats, and return their places by name; none where every volume failed.

    What the ledger has for written and is as it was stays. single_file: maps.h5 with all data in it. Raises `DatasetError` for a
    damaged shard.
    """
    ledger = Ledger(out / LEDGER)
    files = [out / SHARDS / shard.file for shard in ledger.shards().values() if shard.file is not None]
    if not files:
        return {}
    for name in record["formats"]:
        path = out / FORMATS[name]
        if name == "npy":
            with MapReader(out) as maps:
                for i, volume in enumerate(maps.names):
                    about = {"method": maps.method, **maps.identity, "relatent": record["versions"]["relatent"]}
                    scores = {key: float(values[i]) for key, values in maps.scores.items()}
                    write_npy(path, volume, maps.error(i), {**about, "scores": scores})
            if path.name not in ledger.exports():
                ledger.add_export(name, path.name, None, 0)
        elif not _is_current(ledger, path, single_file):
            if single_file:
                _copy(out, path)
            else:
                write_virtual(path, files)
            ledger.add_export(name, path.name, file_sha256(path), path.stat().st_size, single_file)
    return {name: FORMATS[name] for name in record["formats"]}


def _copy(out: Path, path: Path) -> None:
    with MapReader(out) as maps, map_file(path, maps.header) as file:
        for i in range(len(maps)):
            file.add(maps.row(i))


def _is_current(ledger: Ledger, path: Path, single_file: bool) -> bool:
    """Whether the file was written after the last shard, of this kind, and has not changed since."""
    found = None
    for line in ledger.lines():
        if line["kind"] in ("shard", "dropped"):
            found = None
        elif line["kind"] == "export" and line["path"] == path.name:
            found = line
    if found is None or found["single_file"] is not single_file or not path.is_file():
        return False
    return file_sha256(path) == found["sha256"]
