"""Volumes as a data set of PyTorch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from .augmentation import Augmentation, sample_generator
from .folds import check_normal
from .volume import Volume


class VolumeDataset(Dataset[dict[str, Any]]):
    """Volumes of one size, changed at random where an augmentation is given.

    Each sample has `volume`, (1, side, side, side) float32 in [0, 1]; `label`, int: 0 normal, 1 abnormal, -1 not known; `name`;
    and `index`, its place in `volumes`.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        side: int,
        training: bool = False,
        augmentation: Augmentation | None = None,
        seed: int = 42,
    ) -> None:
        """side: voxels. training: refuse all that is not normal. seed: of the augmentation.

        Raises FoldsError where training volumes are abnormal or have no label.
        """
        if training:
            check_normal(volumes)
        self.volumes, self.side, self.augmentation, self.seed = list(volumes), side, augmentation, seed
        # in shared memory: worker processes that outlive an epoch see it change
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Draw the augmentation of this epoch from now on, in all worker processes."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample. Raises VolumeError for a file that cannot be used, IndexError beyond the end."""
        one = self.volumes[index]
        index %= len(self)
        volume = torch.from_numpy(one.read(self.side))[None]
        if self.augmentation is not None:
            volume = self.augmentation(volume, sample_generator(self.seed, int(self._epoch), index))
        label = -1 if one.label is None else one.label
        return {"volume": volume, "label": label, "name": one.name, "index": index}
