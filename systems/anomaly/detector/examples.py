"""What the detector trains on: error maps and volumes with the regions of their weak labels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.errors import FoldsError
from ..data.volume import ABNORMAL, NORMAL, Volume

VALIDATION_SHARE = 5  # one in five patients


@dataclass(frozen=True, eq=False)
class Examples:
    """errors: (N, D, H, W) float32 from 0 on. volumes: the same in [0, 1]. inside: booleans, the labelled regions."""

    errors: np.ndarray
    volumes: np.ndarray
    inside: np.ndarray

    def __len__(self) -> int:
        return len(self.errors)

    def batch(self, rows: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Errors, volumes and regions of these rows: (B, 1, D, H, W) each."""
        errors, volumes, inside = (
            torch.from_numpy(one[list(rows)])[:, None].to(device) for one in (self.errors, self.volumes, self.inside)
        )
        return errors, volumes, inside

    def take(self, rows: Sequence[int]) -> "Examples":
        """The examples of these rows."""
        some = list(rows)
        return Examples(self.errors[some], self.volumes[some], self.inside[some])

    def sha256(self) -> str:
        """The SHA-256 digest over all values, in hexadecimal."""
        digest = hashlib.sha256(repr(self.errors.shape).encode())
        for one in (self.errors, self.volumes, self.inside):
            digest.update(np.ascontiguousarray(one).data)
        return digest.hexdigest()


def split_patients(volumes: Sequence[Volume], seed: int) -> tuple[list[str], list[str]]:
    """The patients to train and to validate with, four to one, both with abnormal volumes among theirs.

    Volumes without a label are not used. Raises FoldsError where there are too few patients for that.
    """
    labelled = [volume for volume in volumes if volume.label is not None]
    abnormal = {volume.patient for volume in labelled if volume.label == ABNORMAL}
    normal = {volume.patient for volume in labelled} - abnormal
    if len(abnormal) < 2 or not any(volume.label == NORMAL for volume in labelled):
        raise FoldsError(
            f"{len(abnormal)} patients have volumes with label 1 (abnormal): the detector needs two or more, and normal ones"
        )
    rng = np.random.default_rng(seed)
    validation: list[str] = []
    for group in (abnormal, normal):
        names = rng.permutation(sorted(group)).tolist()
        validation += names[: round(len(names) / VALIDATION_SHARE) or int(len(names) > 1)]
    return sorted((abnormal | normal) - set(validation)), sorted(validation)


def check_disjoint(patients: Sequence[str], judged: Sequence[Volume]) -> None:
    """Raise FoldsError where a volume to be judged is of a patient whom the detector was trained or chosen with."""
    seen = set(patients)
    for volume in judged:
        if volume.patient in seen:
            raise FoldsError(
                f"{volume.name}: the detector's training has the patient {volume.patient}: leave the patient out of one of the two"
            )
