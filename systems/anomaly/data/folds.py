"""Folds of a cross-validation at patient level, and what leaks between them is refused."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ....engine.errors import UsageError
from ....engine.inputs.regular_files import kind_of_file
from ....engine.runtime.atomic import write_json
from .errors import FoldsError
from .volume import NORMAL, Volume

MAX_BYTES = 1 << 24


class Split(NamedTuple):
    """The volumes of one fold: training and validation ones are normal, those of held-out patients of any label."""

    training: list[Volume]
    validation: list[Volume]
    held_out: list[Volume]


@dataclass(frozen=True)
class Folds:
    """Patients' ids by fold, and those held out of all folds for the final figures.

    Raises FoldsError where a patient is named twice, a fold is empty, or there are fewer than two folds.
    """

    folds: tuple[tuple[str, ...], ...]
    held_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.folds) < 2 or not all(self.folds):
            raise FoldsError(f"expected two or more folds with patients in each, found {[len(f) for f in self.folds]}")
        counts = Counter(patient for fold in self.folds for patient in fold)
        if twice := sorted(patient for patient, count in counts.items() if count > 1):
            raise FoldsError(f"patient {twice[0]} is in the folds {_folds_of(self.folds, twice[0])}: leave it in one")
        if leaked := sorted(counts.keys() & set(self.held_out)):
            raise FoldsError(f"patient {leaked[0]} is held out and in a fold: leave it in one of the two")
        if len(set(self.held_out)) != len(self.held_out):
            raise FoldsError("held_out names a patient twice: leave it in once")

    @property
    def patients(self) -> set[str]:
        """All patients, those held out too."""
        return {patient for fold in self.folds for patient in fold} | set(self.held_out)

    def split(self, volumes: Sequence[Volume], fold_id: int) -> Split:
        """The volumes of fold `fold_id`, from 1 on: its patients' normal ones validate, those of all other folds train.

        Abnormal volumes and those without a label are in neither. Raises UsageError for a fold that is not there, FoldsError for a
        volume of a patient who is in no fold, and where nothing is left to train or to validate with.
        """
        if not 1 <= fold_id <= len(self.folds):
            raise UsageError(f"fold_id: expected 1 to {len(self.folds)}, found {fold_id}")
        for volume in volumes:
            if volume.patient not in self.patients:
                raise FoldsError(
                    f"{volume.name}: the folds do not know the patient {volume.patient}; add it to one, or to held_out"
                )
        normal = [volume for volume in volumes if volume.label == NORMAL]
        validation = set(self.folds[fold_id - 1])
        training = self.patients - validation - set(self.held_out)
        split = Split(
            [volume for volume in normal if volume.patient in training],
            [volume for volume in normal if volume.patient in validation],
            [volume for volume in volumes if volume.patient in self.held_out],
        )
        if not split.training or not split.validation:
            counts = f"{len(split.training)} to train and {len(split.validation)} to validate"
            raise FoldsError(f"fold {fold_id} has {counts} with label 0 (normal): label more volumes in volumes.json")
        self.check_split(split, fold_id)
        return split

    def check_split(self, split: Split, fold_id: int) -> None:
        """Raise FoldsError where training or validation would see an abnormal volume, or one of another part's patients."""
        validation, held_out = set(self.folds[fold_id - 1]), set(self.held_out)
        parts = {
            "training": (split.training, self.patients - validation - held_out),
            "validation": (split.validation, validation),
        }
        for part, (volumes, patients) in parts.items():
            check_normal(volumes, part)
            for volume in volumes:
                if volume.patient not in patients:
                    raise FoldsError(f"{volume.name}: patient {volume.patient} must not be in {part} of fold {fold_id}")


def _folds_of(folds: Sequence[Sequence[str]], patient: str) -> str:
    """The numbers, from 1 on, of the folds that name a patient, such as "1 and 3"."""
    return " and ".join(str(k) for k, fold in enumerate(folds, 1) for name in fold if name == patient)


def check_normal(volumes: Sequence[Volume], part: str = "training") -> None:
    """Raise FoldsError where a volume is not known to be normal: the model is to learn normal ones only."""
    for volume in volumes:
        if volume.label != NORMAL:
            what = "has no label" if volume.label is None else "is abnormal"
            raise FoldsError(
                f"{volume.name} {what} and must not be in {part}: take it out, or label it 0 if it is normal"
            )


def read_folds(path: str | Path) -> Folds:
    """A folds file, JSON: `{"folds": [["p01", …], …], "held_out": ["p31", …]}`.

    Raises FoldsError where it cannot be read, is of another form, or names a patient twice.
    """
    path = Path(path)
    try:
        if kind := kind_of_file(path):
            raise FoldsError(f"{path} is {kind}, expected a file")
        with path.open("rb") as file:
            value = json.loads(file.read(MAX_BYTES))
    except OSError as error:
        raise FoldsError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FoldsError(f"{path} is no JSON of folds: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("folds"), list) or value.keys() - {"folds", "held_out"}:
        raise FoldsError(f"{path}: expected an object with folds and held_out, and nothing else")
    lists = [*value["folds"], value.get("held_out", [])]
    if not all(isinstance(one, list) and all(isinstance(patient, str) for patient in one) for one in lists):
        raise FoldsError(f"{path}: expected lists of patients' ids, which are strings")
    try:
        return Folds(tuple(tuple(fold) for fold in lists[:-1]), tuple(lists[-1]))
    except FoldsError as error:
        raise FoldsError(f"{path}: {error}") from error


def write_folds(path: str | Path, folds: Folds) -> None:
    """Write a folds file, atomically."""
    write_json(Path(path), asdict(folds))


def make_folds(patients: Collection[str], seed: int, count: int = 5, held_out: int = 0) -> Folds:
    """Patients, in any order, drawn into `count` folds whose sizes differ by one at most, after `held_out` of them are held out.

    The same patients and seed give the same folds. Raises UsageError where there are too few patients.
    """
    names = sorted(set(patients))
    if count < 2 or held_out < 0 or len(names) < held_out + count:
        raise UsageError(
            f"expected two or more folds and a patient for each, found {len(names)} patients, {held_out} held out"
        )
    drawn = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    rest = drawn[held_out:]
    return Folds(tuple(tuple(sorted(rest[k::count])) for k in range(count)), tuple(sorted(drawn[:held_out])))
