"""The patients of a detector's training: to train, to validate, and not to be judged."""

from collections.abc import Iterable, Sequence

import numpy as np

from ..data.errors import FoldsError
from ..data.volume import ABNORMAL, NORMAL, Volume

VALIDATION_SHARE = 5  # one in five patients


def split_patients(volumes: Sequence[Volume], seed: int) -> tuple[set[str], set[str]]:
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
    return (abnormal | normal) - set(validation), set(validation)


def check_disjoint(patients: Iterable[str], judged: Sequence[Volume]) -> None:
    """Raise FoldsError where a volume to be judged is of a patient whom the detector was trained or chosen with."""
    seen = set(patients)
    for volume in judged:
        if volume.patient in seen:
            raise FoldsError(
                f"{volume.name}: the detector's training has the patient {volume.patient}: leave the patient out of one of the two"
            )
