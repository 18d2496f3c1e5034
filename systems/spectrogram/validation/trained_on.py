"""What a validator was trained on, so that it refuses to judge it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ....engine.errors import UsageError
from .pictures import PictureSet


@dataclass(frozen=True)
class TrainedOn:
    """Names (ID_1/a_0000.png), recordings (ID_1/a) and SHA-256 of the pixels of the training pictures, sorted."""

    names: tuple[str, ...]
    recordings: tuple[str, ...]
    digests: tuple[str, ...]

    @classmethod
    def of(cls, pictures: PictureSet) -> "TrainedOn":
        recordings = {key for key in _recordings(pictures) if key}
        return cls(tuple(sorted(pictures.names)), tuple(sorted(recordings)), tuple(sorted(pictures.digests)))

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "TrainedOn":
        """From what `asdict` made."""
        return cls(*(tuple(values[name]) for name in ("names", "recordings", "digests")))

    def asdict(self) -> dict[str, Any]:
        return asdict(self)

    def refuse(self, pictures: PictureSet) -> None:
        """Raise `UsageError` where a picture is one of the training, or of a recording of it."""
        remedy = "a validator must not judge what it was trained on; give it pictures of other recordings"
        names, recordings, digests = set(self.names), set(self.recordings), set(self.digests)
        for name, recording, digest in zip(pictures.names, _recordings(pictures), pictures.digests, strict=True):
            if digest in digests:
                raise UsageError(f"{name} has the very pixels of a training picture: {remedy}")
            if recording in recordings:
                raise UsageError(f"{name} is of the training recording {recording}: {remedy}")
            if name in names:
                raise UsageError(f"{name} has the name of a training picture: {remedy}")


def check_users(pictures: PictureSet, num_users: int) -> None:
    """Raise `UsageError` unless each user from 0 on has a training picture, as no split by users leaves it."""
    counts = np.bincount(pictures.users.numpy(), minlength=num_users)
    if len(counts) > num_users:
        raise UsageError(f"expected users ID_1 to ID_{num_users}, found ID_{len(counts)}: raise --num_users")
    if missing := np.flatnonzero(counts == 0).tolist():
        text = ", ".join(f"ID_{user + 1}" for user in missing)
        raise UsageError(f"no training picture of {text}: split by recordings, so that every user is in both parts")


def _recordings(pictures: PictureSet) -> list[str]:
    """Such as ID_1/a: two users may have recordings of one name. "" for a picture of none."""
    return [
        f"ID_{user + 1}/{recording}" if recording else ""
        for user, recording in zip(pictures.users.tolist(), pictures.recordings, strict=True)
    ]
