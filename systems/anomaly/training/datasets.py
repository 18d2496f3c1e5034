"""The data sets of one fold."""

import logging
from pathlib import Path

from ....engine.errors import UsageError
from ..data.augmentation import Augmentation
from ..data.dataset import VolumeDataset
from ..data.errors import VolumeError
from ..data.folds import read_folds
from ..data.volume import NORMAL, Volume
from ..data.volume_archive import read_archive
from ..data.volume_folder import read_folder
from .settings import DatasetSettings

_log = logging.getLogger(__name__)


def build_datasets(settings: DatasetSettings, fold_id: int, seed: int) -> tuple[VolumeDataset, VolumeDataset]:
    """The normal volumes to train with, changed at random, and the normal ones to validate with.

    Each is read once: those that cannot be used are left out, with a line in the log. Raises `FoldsError` where the folds leak or do
    not know a patient, `UsageError` where a folder comes without folds or no volume can be used.
    """
    training, validation = (_usable(part) for part in _parts(settings, fold_id))
    if not training or not validation:
        raise UsageError(f"{settings.data_dir} has no usable volume left to train or to validate with")
    augmentation = Augmentation() if settings.augment else None
    return (
        VolumeDataset(training, settings.volume_size, True, augmentation, seed),
        VolumeDataset(validation, settings.volume_size, True),
    )


def _parts(settings: DatasetSettings, fold_id: int) -> tuple[list[Volume], list[Volume]]:
    if settings.data_dir.endswith(".npz"):
        train, val = (
            [volume for volume in read_archive(settings.data_dir, split) if volume.label == NORMAL]
            for split in ("train", "val")
        )
        if not train or not val:
            raise UsageError(f"{settings.data_dir} has no volume with label 0 (normal) in its splits train or val")
        return train, val
    if settings.folds_file is None:
        raise UsageError("dataset.folds_file is missing; a folder of volumes needs its folds of patients")
    volumes, failures = read_folder(Path(settings.data_dir))
    for failure in failures:
        _log.warning("left out: %s", failure)
    split = read_folds(settings.folds_file).split(volumes, fold_id)
    return split.training, split.validation


def _usable(volumes: list[Volume]) -> list[Volume]:
    """Those that can be read. An epoch that meets another would stop the training, hours after its start perhaps."""
    found = []
    for volume in volumes:
        try:
            volume.read()
        except VolumeError as error:
            _log.warning("left out: %s", error)
        else:
            found.append(volume)
    return found
