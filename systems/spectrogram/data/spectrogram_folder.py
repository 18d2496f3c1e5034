"""A folder of spectrograms: `ID_{n}/` per user, n from 1 on, and `spectrograms.json` saying what is known of each file."""

import json
import logging
import math
import re
from pathlib import Path
from typing import Any

from ....engine.inputs.regular_files import kind_of_file
from .errors import SpectrogramError
from .spectrogram import Spectrogram

INDEX, SCHEMA = "spectrograms.json", 1
SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_INDEX_BYTES = 1 << 28
_FOLDER = re.compile(r"ID_([1-9][0-9]{0,5})")
_log = logging.getLogger(__name__)


def read_spectrograms(data_dir: str | Path, num_users: int | None = None) -> list[Spectrogram]:
    """The spectrograms of the users 0 to num_users - 1, or of all where it is None, ordered by user, recording and time.

    data_dir: holds the folders `ID_1`, `ID_2`, … without a gap, each with files `.png`, `.jpg` or `.jpeg`; other folders and files are
    passed over. Without a `spectrograms.json` each file counts as a recording of its own, and a warning says so. Raises
    SpectrogramError where a user has no file, where the files and `spectrograms.json` do not match, or it cannot be read.
    """
    data_dir = Path(data_dir)
    found = _find(data_dir)
    if not found:
        raise SpectrogramError(
            f"{data_dir} holds no folder ID_1, ID_2, … with pictures; `relatent spectrogram simulate {data_dir}` makes some"
        )
    users = max(found) if num_users is None else num_users
    if users < 1:
        raise SpectrogramError(f"expected one user or more, found num_users {num_users}")
    if missing := [f"ID_{number}" for number in range(1, users + 1) if number not in found]:
        raise SpectrogramError(
            f"{data_dir}: {missing[0]} has no picture ({len(missing)} of {users} users have none): number the folders "
            "from ID_1 on without gaps, or give fewer users"
        )
    index = read_index(data_dir)
    if index is None:
        _log.warning(
            "%s has no %s: each picture counts as a recording of its own, so a split by recording is impossible and figures "
            "on held-out pictures come out too high",
            data_dir,
            INDEX,
        )
    else:
        _check_files(data_dir, index["spectrograms"], found)
    spectrograms = []
    for number in range(1, users + 1):
        for path in found[number]:
            known: dict[str, Any] = {"recording": path.name, "time": 0.0}
            if index is not None:
                known = index["spectrograms"][f"{path.parent.name}/{path.name}"]
            spectrograms.append(Spectrogram(path, number - 1, known["recording"], float(known["time"])))
    return sorted(spectrograms, key=lambda one: (one.user, one.recording, one.time, one.path.name))


def read_index(data_dir: Path) -> dict[str, Any] | None:
    """The folder's `spectrograms.json`: `schema`, `simulated`, and under `spectrograms` for each file, such as
    `ID_1/walk_0001.png`, its `user` (from 0 on), `recording` and `time`. None where there is no such file.

    Raises SpectrogramError where it cannot be read, is of another form, or names a user that its folder's name contradicts.
    """
    path = data_dir / INDEX
    try:
        if kind := kind_of_file(path):
            raise SpectrogramError(f"{path} is {kind}, expected a file")
        with path.open("rb") as file:
            data = file.read(MAX_INDEX_BYTES + 1)
        index = json.loads(data) if len(data) <= MAX_INDEX_BYTES else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise SpectrogramError(f"{path} cannot be read: {error}") from error
    if (
        not isinstance(index, dict)
        or index.get("schema") != SCHEMA
        or not isinstance(index.get("simulated"), bool)
        or not isinstance(index.get("spectrograms"), dict)
    ):
        raise SpectrogramError(f"{path}: expected an object with schema {SCHEMA}, simulated and spectrograms")
    for name, entry in index["spectrograms"].items():
        _check_entry(path, name, entry)
    return index


def _check_entry(path: Path, name: str, entry: Any) -> None:
    known: dict[str, Any] = entry if isinstance(entry, dict) else {}
    user, recording, time = (known.get(key, "") for key in ("user", "recording", "time"))
    numbers = type(user) is int and type(time) in (int, float) and math.isfinite(time)
    if not numbers or not isinstance(recording, str) or not recording:
        raise SpectrogramError(
            f"{path}: {name}: expected user (from 0 on), recording (a name) and time (seconds), found {entry}"
        )
    folder = _FOLDER.fullmatch(name.partition("/")[0])
    if folder is None or int(folder[1]) != user + 1:
        raise SpectrogramError(f"{path}: {name}: user is {user}, whose files are in ID_{user + 1}/")


def _find(data_dir: Path) -> dict[int, list[Path]]:
    """The pictures in each folder `ID_{n}` that has some, by n."""
    found = {}
    try:
        for folder in data_dir.iterdir():
            if (match := _FOLDER.fullmatch(folder.name)) and folder.is_dir():
                files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
                found[int(match[1])] = [path for path in files if not path.name.startswith(".")]
    except OSError as error:
        raise SpectrogramError(
            f"{data_dir} cannot be read: {error.strerror}; give the folder with ID_1, ID_2, …"
        ) from error
    return {number: paths for number, paths in found.items() if paths}


def _check_files(data_dir: Path, entries: dict[str, Any], found: dict[int, list[Path]]) -> None:
    """Raise SpectrogramError unless the entries of `spectrograms.json` are the files that are there."""
    files = {f"{path.parent.name}/{path.name}" for paths in found.values() for path in paths}
    if gone := sorted(entries.keys() - files):
        raise SpectrogramError(
            f"{data_dir}: {len(gone)} of {len(entries)} pictures in {INDEX} are not there, such as {gone[0]}: finish what "
            "writes them (`relatent spectrogram simulate` goes on), or take them out of it"
        )
    if unknown := sorted(files - entries.keys()):
        raise SpectrogramError(f"{data_dir}: {unknown[0]} is not in {INDEX}: add it with its recording, or remove it")
