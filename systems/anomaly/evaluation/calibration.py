"""Thresholds, from a validation set alone.

Nothing here is given the set that is judged by the thresholds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ....engine.errors import UsageError
from ..data.volume import ABNORMAL, NORMAL
from ..maps.reader import MapReader
from .voxels import VolumeVoxels, pooled, read_voxels

PERCENTILE, VOXEL_PERCENTILE = (
    95.0,
    99.0,
)  # of normal volumes' scores, and of their voxels, where nothing abnormal is known


@dataclass(frozen=True)
class Threshold:
    """What is at least `value` counts as abnormal. rule: how the value was found."""

    value: float
    rule: str


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a validation set says. source: which set, or why there is none.

    scores: a threshold for each score. voxels: for the maps. mean_normal: (D, H, W) float32, the mean of its normal volumes, and
    intensity: the threshold for the distance from it; both None where no normal volume or no mask is known.
    """

    source: str
    scores: Mapping[str, Threshold] = field(default_factory=dict)
    voxels: Threshold | None = None
    mean_normal: np.ndarray | None = None
    intensity: Threshold | None = None


def calibrate(validation: MapReader, source: str, sigma: float = 0.0, with_voxels: bool = True) -> Calibration:
    """Thresholds for the scores, and for the voxels, of a validation set. sigma: the smoothing of the maps, in voxels.

    with_voxels: False leaves out what takes reading the maps, where it serves nothing.
    """
    scores = {name: score_threshold(values, validation.labels) for name, values in validation.scores.items()}
    found = {name: threshold for name, threshold in scores.items() if threshold is not None}
    if not with_voxels:
        return Calibration(source, found)
    calibration = Calibration(source, found, voxel_threshold(read_voxels(validation, sigma)))
    normal = [int(i) for i in np.flatnonzero(np.asarray(validation.labels) == NORMAL)]
    if not normal or not validation.header.keep_volumes:
        return calibration
    total = np.zeros((validation.side,) * 3)
    for i in normal:
        total += validation.volume(i)
    mean = (total / len(normal)).astype(np.float32)
    distance = read_voxels(validation, sigma, lambda i: np.abs(validation.volume(i) - mean))
    return replace(calibration, mean_normal=mean, intensity=voxel_threshold(distance))


def stored_thresholds(values: object, source: str) -> Calibration:
    """Those that a checkpoint states under the key `calibration`: {score: threshold}. Raises `UsageError` for anything else."""
    if isinstance(values, dict) and all(isinstance(one, (int, float)) and np.isfinite(one) for one in values.values()):
        scores = {str(name): Threshold(float(value), "stored with the model") for name, value in values.items()}
        return Calibration(source, scores)
    raise UsageError(f"{source}: expected finite numbers by the scores' names, found {values!r}")


def score_threshold(values: np.ndarray, labels: np.ndarray) -> Threshold | None:
    """The threshold of the largest Youden index, sensitivity + specificity − 1; with normal volumes alone their 95th percentile.

    values: (N,) floats, larger is more anomalous. labels: (N,) 0, 1 or -1. None where no volume is known to be normal. The threshold
    lies halfway between two scores, so that one just below those found abnormal is not missed.
    """
    from sklearn.metrics import roc_curve

    values, labels = np.asarray(values, np.float64), np.asarray(labels)
    normal, abnormal = (labels == kind for kind in (NORMAL, ABNORMAL))
    if not normal.any():
        return None
    if not abnormal.any():
        return Threshold(float(np.percentile(values[normal], PERCENTILE)), f"{PERCENTILE:g}th percentile of normal")
    known = normal | abnormal
    false, true, thresholds = roc_curve(abnormal[known], values[known], drop_intermediate=False)
    best = thresholds[1:][np.argmax((true - false)[1:])]  # the first one is infinite
    below = values[known][values[known] < best]
    return Threshold(float((best + below.max()) / 2 if len(below) else best), "largest Youden index")


def voxel_threshold(volumes: Sequence[VolumeVoxels]) -> Threshold | None:
    """The threshold of the largest Dice over all voxels; without abnormal ones the 99th percentile of normal volumes' voxels."""
    values, truth = pooled(volumes)
    if truth.any():
        return Threshold(best_dice(values, truth)[1], "largest Dice")
    if not len(values):
        return None
    return Threshold(float(np.percentile(values, VOXEL_PERCENTILE)), f"{VOXEL_PERCENTILE:g}th percentile of normal")


def best_dice(values: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The largest Dice over all thresholds, and its threshold. values: (V,) floats; truth: (V,) booleans, some of them true."""
    from sklearn.metrics import precision_recall_curve

    return largest_dice(*precision_recall_curve(truth, values, drop_intermediate=True))


def largest_dice(precision: np.ndarray, recall: np.ndarray, thresholds: np.ndarray) -> tuple[float, float]:
    """The largest Dice, and its threshold, of what scikit-learn's `precision_recall_curve` returns."""
    dice = 2 * precision * recall / np.maximum(precision + recall, 1e-30)
    best = int(np.argmax(dice[:-1]))  # the last point has no threshold
    return float(dice[best]), float(thresholds[best])
