"""The voxels of a set of maps, with what is known of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.volume import NORMAL
from ..maps.reader import MapReader

MAX_VOXELS = 20_000_000  # of all volumes together: sorting them takes about 1.5 GB; of more, a share is drawn


@dataclass(frozen=True, eq=False)
class VolumeVoxels:
    """values: (V,) float32 from 0 on, larger is more anomalous. mask: (V,) booleans, None where not known. label: 0, 1 or -1."""

    values: np.ndarray
    mask: np.ndarray | None
    label: int


def read_voxels(
    maps: MapReader, sigma: float = 0.0, values_of: Callable[[int], np.ndarray] | None = None
) -> list[VolumeVoxels]:
    """The voxels of each volume, smoothed by a Gaussian of `sigma` voxels before.

    values_of: the values of the volume i, (D, H, W); the maps' own, if not given. Of more than `MAX_VOXELS` the same share is drawn
    from each volume, always the same ones. A normal volume has no abnormal voxel, so its mask is known without a file.
    """
    from scipy.ndimage import gaussian_filter

    share = min(1.0, MAX_VOXELS / max(len(maps) * maps.side**3, 1))
    found = []
    for i in range(len(maps)):
        values = np.asarray((values_of or maps.error)(i), np.float32)
        if sigma:
            values = gaussian_filter(values, sigma)
        mask, label = maps.mask(i), int(maps.labels[i])
        if mask is None and label == NORMAL:
            mask = np.zeros(values.shape, bool)
        if share < 1:
            drawn = np.random.default_rng(i).random(values.shape, np.float32) < share
            values, mask = values[drawn], None if mask is None else mask[drawn]
        found.append(VolumeVoxels(values.ravel(), None if mask is None else mask.ravel(), label))
    return found


def pooled(volumes: Sequence[VolumeVoxels]) -> tuple[np.ndarray, np.ndarray]:
    """Values and masks of all voxels whose mask is known: (V,) float32 and (V,) booleans."""
    known = [(volume.values, volume.mask) for volume in volumes if volume.mask is not None]
    if not known:
        return np.zeros(0, np.float32), np.zeros(0, bool)
    values, masks = zip(*known, strict=True)
    return np.concatenate(values), np.concatenate(masks)
