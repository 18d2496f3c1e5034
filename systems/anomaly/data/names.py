"""Names of volumes' files: `vol_{patient}_{level}.npy`."""

import re
from pathlib import Path
from typing import NamedTuple

from ....engine.errors import UsageError
from .errors import VolumeError

LEVELS = (*(f"T{i}" for i in range(4, 13)), *(f"L{i}" for i in range(1, 6)))  # head to foot
_PATIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NAME = re.compile(rf"vol_({_PATIENT.pattern})_({'|'.join(LEVELS)})\.npy")


class VolumeName(NamedTuple):
    """What a file's name states: the patient's id and the vertebra's level, one of `LEVELS`."""

    patient: str
    level: str


def parse_name(path: str | Path) -> VolumeName:
    """The patient and the level of a file, by its name alone. Raises VolumeError for any other name."""
    found = _NAME.fullmatch(Path(path).name)
    if found is None:
        raise VolumeError(f"{path}: expected a name like vol_p01_L3.npy, a level from {LEVELS[0]} to {LEVELS[-1]}")
    return VolumeName(*found.groups())


def format_name(patient: str, level: str) -> str:
    """The file's name for a patient and a level. Raises UsageError for a level or a patient's id that names cannot hold."""
    if level not in LEVELS:
        raise UsageError(f"level: expected one of {', '.join(LEVELS)}, found {level!r}")
    if not _PATIENT.fullmatch(patient):
        raise UsageError(
            f"patient: expected letters, digits, '-', '.' and '_', a letter or digit first, found {patient!r}"
        )
    return f"vol_{patient}_{level}.npy"
