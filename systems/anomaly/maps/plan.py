"""The volumes of a run, as they were when it began."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....engine.errors import DatasetError, UsageError
from ....factory.state.file_state import FileState
from ..data.errors import VolumeError
from ..data.volume import Volume


@dataclass(frozen=True)
class PlannedVolume:
    """One volume of a run. sha256: of its file, or of an array's type, shape and values; None where it cannot be read."""

    name: str
    patient: str
    label: int | None
    sha256: str | None
    file: FileState | None  # None for an array
    mask: FileState | None = None

    @property
    def source(self) -> str:
        """The file's path, or the name of an array."""
        return self.file.path if self.file else self.name

    @property
    def content(self) -> tuple[Any, ...]:
        """What a run goes on with: where the files lie and when they were written does not count."""
        return self.name, self.patient, self.label, self.sha256, self.mask and self.mask.sha256

    def check_unchanged(self) -> None:
        """Raise VolumeError where a file is not as it was planned."""
        for state in (self.file, self.mask):
            if state is not None and (change := state.change()):
                raise VolumeError(f"{change} since the run began")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "PlannedVolume":
        """The inverse of `to_json`. Raises TypeError and KeyError for other values."""
        files = {name: FileState(**values[name]) if values[name] else None for name in ("file", "mask")}
        return cls(**{**values, **files})


def plan_volumes(volumes: Iterable[Volume], known: Sequence[PlannedVolume] = ()) -> list[PlannedVolume]:
    """The plan of these volumes, in their order. Files are read for their checksums, but for those of `known` that have not changed.

    Raises `UsageError` for no volumes, equal names and names that leave a folder.
    """
    states = {state.path: state for one in known for state in (one.file, one.mask) if state is not None}

    def state_of(path: Path) -> FileState:
        state = states.get(os.path.abspath(path))
        return FileState.of(os.path.abspath(path)) if state is None or state.sha256 is None or state.change() else state

    plan: list[PlannedVolume] = []
    for one in volumes:
        if not one.name or Path(one.name).name != one.name:
            raise UsageError(f"{one.name!r} is no name of a volume; give one such as vol_p01_L1.npy")
        if plan and plan[-1].name >= one.name:
            raise UsageError(
                f"two volumes are called {one.name}, or they are out of order: give each a name of its own"
            )
        file = None if isinstance(one.source, np.ndarray) else state_of(one.source)
        digest = array_sha256(one.source) if isinstance(one.source, np.ndarray) else file.sha256 if file else None
        mask = None if one.mask is None else state_of(one.mask)
        plan.append(PlannedVolume(one.name, one.patient, one.label, digest, file, mask))
    if not plan:
        raise UsageError("there are no volumes: give a folder with files such as vol_p01_L1.npy, or an archive .npz")
    return plan


def read_plan(values: Any, place: Path) -> list[PlannedVolume]:
    """The plan in a run.json. Raises `DatasetError` where it is damaged."""
    try:
        return [PlannedVolume.from_json(one) for one in values]
    except (TypeError, KeyError) as error:
        raise DatasetError(f"{place} is damaged: volumes: {error!r}") from error


def array_sha256(array: np.ndarray) -> str:
    """The SHA-256 digest over an array's type, shape and values, in hexadecimal."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
