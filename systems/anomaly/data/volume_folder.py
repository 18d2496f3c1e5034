"""A folder of volumes, with `volumes.json` saying what is known of each."""

import json
from pathlib import Path
from typing import Any

from ....engine.inputs.regular_files import kind_of_file
from ....engine.runtime.atomic import write_json
from .errors import VolumeError
from .names import parse_name
from .volume import ABNORMAL, NORMAL, Volume

INDEX, MASKS = "volumes.json", "masks"
MAX_INDEX_BYTES = 1 << 28
SCHEMA = 1


def read_folder(folder: str | Path) -> tuple[list[Volume], list[str]]:
    """The folder's volumes in the order of their names, and a line for each `.npy` file that is none.

    Labels come from the folder's `volumes.json`; without it, or without an entry in it, a label is None. Masks are the files of the
    same name in the folder `masks`. Raises VolumeError where the folder or its `volumes.json` cannot be read.
    """
    folder = Path(folder)
    entries = read_index(folder)["volumes"]
    volumes, failures = [], []
    try:
        paths = sorted(folder.glob("*.npy"))
    except OSError as error:
        raise VolumeError(f"{folder} cannot be read: {error.strerror}") from error
    for path in paths:
        try:
            patient = parse_name(path).patient
        except VolumeError as error:
            failures.append(str(error))
            continue
        mask = folder / MASKS / path.name
        label = entries.get(path.name, {}).get("label")
        volumes.append(Volume(path.name, patient, label, path, mask if mask.is_file() else None))
    return volumes, failures


def read_index(folder: Path) -> dict[str, Any]:
    """The folder's `volumes.json`: `schema`, `synthetic`, and under `volumes` each file's name with its `label` and more.

    Where there is none, one without entries. Raises VolumeError where it cannot be read or is of another form.
    """
    if not folder.is_dir():
        raise VolumeError(f"{folder} is no folder: give the folder of the volumes")
    path = folder / INDEX
    try:
        if kind := kind_of_file(path):
            raise VolumeError(f"{path} is {kind}, expected a file")
        with path.open("rb") as file:
            data = file.read(MAX_INDEX_BYTES + 1)
        index = json.loads(data) if len(data) <= MAX_INDEX_BYTES else None
    except FileNotFoundError:
        return {"schema": SCHEMA, "synthetic": False, "volumes": {}}
    except (OSError, ValueError, RecursionError) as error:
        raise VolumeError(f"{path} cannot be read: {error}") from error
    if not isinstance(index, dict) or index.get("schema") != SCHEMA or not isinstance(index.get("volumes"), dict):
        raise VolumeError(f"{path}: expected an object with schema {SCHEMA} and volumes")
    for name, entry in index["volumes"].items():
        label = entry.get("label") if isinstance(entry, dict) else entry
        if not isinstance(entry, dict) or isinstance(label, bool) or label not in (None, NORMAL, ABNORMAL):
            raise VolumeError(f"{path}: {name}: expected an object with the label 0 (normal), 1 (abnormal) or null")
    return index


def make_folder(folder: Path, synthetic: bool) -> dict[str, Any]:
    """Make the folder where there is none, and return its `read_index`.

    Raises VolumeError where it cannot be made or used, and where synthetic and real volumes would share it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VolumeError(f"{folder} cannot be made: {error.strerror}") from error
    index = read_index(folder)
    if index["volumes"] and index.get("synthetic") is not synthetic:
        kinds = ("synthetic", "real") if synthetic else ("real", "synthetic")
        raise VolumeError(f"{folder} holds {kinds[1]} volumes: give {kinds[0]} ones a folder of their own")
    return index


def add_to_index(folder: Path, entries: dict[str, dict[str, Any]], synthetic: bool, **more: Any) -> None:
    """Write or extend `volumes.json`. entries: file names with their `label` and whatever else is known of them.

    more: what is known of all of them. Raises VolumeError as `make_folder` does.
    """
    index = make_folder(folder, synthetic)
    volumes = dict(sorted({**index["volumes"], **entries}.items()))
    write_json(folder / INDEX, {**index, "schema": SCHEMA, "synthetic": synthetic, **more, "volumes": volumes})
