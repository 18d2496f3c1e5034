"""Preparation of many scans: what fails is one line, the rest is done, and a second call goes on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....engine.errors import RelatentError
from ....engine.runtime.atomic import write_json
from .errors import FoldsError, VolumeError
from .folds import Folds, make_folds, read_folds, write_folds
from .label_tables import read_table
from .names import format_name, parse_name
from .preparation import Field, prepare_scan, source_digest
from .scan_list import Scan
from .volume_folder import INDEX, make_folder, read_folder, read_index

DONE, UNCHANGED, FAILED = "done", "unchanged", "failed"
FOLDS = "folds.json"


@dataclass(frozen=True)
class PreparedScan:
    """What became of a scan. status: `done`, `unchanged` or `failed`, with the reason. volumes: its files in the folder."""

    patient: str
    scan: str
    status: str
    volumes: tuple[str, ...] = ()
    reason: str | None = None


def prepare_scans(
    scans: Iterable[Scan], folder: Path, field: Field | None = None, replace: bool = False
) -> Iterator[PreparedScan]:
    """Prepare each scan into the folder, as `prepare_scan` does, and yield what became of it.

    A patient whose volumes are there is left unchanged where scan, mask, labels and field are the same (only labels of the volumes that
    are given are brought up to date), and is refused otherwise, as is a second scan of a patient. replace: prepare those again, without
    what was there before. Raises VolumeError where the folder itself cannot be used.
    """
    make_folder(folder, synthetic=False)
    field, seen = field or Field(), set[str]()
    for one in scans:
        try:
            if one.patient in seen:
                raise VolumeError(f"patient {one.patient} is named twice: give each scan a patient of its own")
            seen.add(one.patient)
            status, volumes = _prepare(one, folder, field, replace)
            yield PreparedScan(one.patient, one.scan, status, tuple(volumes))
        except RelatentError as error:
            yield PreparedScan(one.patient, one.scan, FAILED, reason=str(error))


def write_volume_folds(folder: Path, seed: int, count: int, held_out: int) -> Folds:
    """Draw folds of the patients in the folder as `make_folds` does, and write them as `folds.json` in it.

    Raises FoldsError where other folds are there: models trained by them have seen what these would validate with.
    """
    volumes, _ = read_folder(folder)
    folds, path = make_folds({volume.patient for volume in volumes}, seed, count, held_out), folder / FOLDS
    if path.exists() and read_folds(path) != folds:
        raise FoldsError(f"{path} has other folds, of other patients or another seed: move it away to draw new ones")
    write_folds(path, folds)
    return folds


def _prepare(one: Scan, folder: Path, field: Field, replace: bool) -> tuple[str, list[str]]:
    labels, stated = read_table(one.labels, one.folder), one.known()
    for level in labels.values():
        format_name(one.patient, level)  # refuses an id that names cannot hold
    scan, mask = one.folder / one.scan, one.folder / one.mask
    index = read_index(folder)
    before = {name: entry for name, entry in index["volumes"].items() if parse_name(name).patient == one.patient}
    if before and not replace:
        if {entry.get("made_from") for entry in before.values()} != {source_digest(scan, mask, labels, field)}:
            raise VolumeError(
                f"patient {one.patient} is in {folder} already, from another scan, mask, table or field: "
                "name another patient, or replace it (--replace)"
            )
        if all((folder / name).is_file() for name in before):
            _update_labels(folder, index, before, stated)
            return UNCHANGED, list(before)
    paths = prepare_scan(scan, mask, one.patient, folder, labels, field, stated)
    if gone := before.keys() - {path.name for path in paths}:  # levels of what is replaced
        index = read_index(folder)
        write_json(folder / INDEX, index | {"volumes": {k: v for k, v in index["volumes"].items() if k not in gone}})
        for name in gone:
            (folder / name).unlink(missing_ok=True)
    return DONE, [path.name for path in paths]


def _update_labels(
    folder: Path, index: dict[str, Any], entries: dict[str, Any], stated: int | dict[str, int] | None
) -> None:
    """Write the labels that are stated, where they differ from those in `volumes.json`; others stay as they are."""
    levels = {name: parse_name(name).level for name in entries}
    if isinstance(stated, dict) and (absent := sorted(stated.keys() - set(levels.values()))):
        raise VolumeError(f"label names {absent[0]}, of which there is no volume: take it out")
    new = {
        name: {**entry, "label": stated if isinstance(stated, int) else stated.get(levels[name], entry["label"])}
        for name, entry in entries.items()
        if stated is not None
    }
    if any(entry != entries[name] for name, entry in new.items()):
        write_json(folder / INDEX, index | {"volumes": {**index["volumes"], **new}})
