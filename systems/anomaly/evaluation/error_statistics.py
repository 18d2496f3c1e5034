"""The distribution of a map's values over the voxels of normal and abnormal volumes, inside and outside masks."""

from collections.abc import Sequence

import numpy as np

from ..data.volume import ABNORMAL, NORMAL
from .voxels import VolumeVoxels

PERCENTILES = (5, 25, 75, 95, 99)


def error_statistics(volumes: Sequence[VolumeVoxels]) -> dict[str, dict[str, float]]:
    """Voxels, mean, standard deviation, median and percentiles of each group that has voxels.

    The groups: volumes by label, and the voxels of abnormal volumes inside and outside their masks.
    """
    masked = [one for one in volumes if one.mask is not None and one.label != NORMAL]
    groups = {
        "normal": [one.values for one in volumes if one.label == NORMAL],
        "abnormal": [one.values for one in volumes if one.label == ABNORMAL],
        "unlabelled": [one.values for one in volumes if one.label not in (NORMAL, ABNORMAL)],
        "inside_masks": [one.values[one.mask] for one in masked],
        "outside_masks": [one.values[~one.mask] for one in masked if one.mask is not None],
    }
    return {name: _describe(np.concatenate(parts)) for name, parts in groups.items() if any(map(len, parts))}


def _describe(values: np.ndarray) -> dict[str, float]:
    found = {
        "voxels": len(values),
        "mean": float(values.mean(dtype=np.float64)),
        "sd": float(values.std(dtype=np.float64)),
        "median": float(np.median(values)),
    }
    return found | {f"p{p}": float(v) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}
