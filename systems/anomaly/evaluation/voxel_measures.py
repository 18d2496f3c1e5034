"""How well values tell abnormal voxels, where masks are known."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .calibration import Threshold, largest_dice
from .voxels import VolumeVoxels, pooled


def voxel_measures(volumes: Sequence[VolumeVoxels], threshold: Threshold | None) -> dict[str, Any] | None:
    """AUROC and AUPRC of all voxels together and as means over the abnormal volumes, and Dice at a calibrated threshold.

    `oracle_dice` is the largest Dice over thresholds chosen by these very masks: a bound, no result. None where no abnormal voxel is
    known, or no normal one.
    """
    from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

    values, truth = pooled(volumes)
    if not truth.any() or truth.all():
        return None
    abnormal = [one for one in volumes if one.mask is not None and one.mask.any() and not one.mask.all()]
    # each curve is found once: the voxels are many, and every function of scikit-learn sorts them anew
    false, true, _ = roc_curve(truth, values)
    precision, recall, thresholds = precision_recall_curve(truth, values, drop_intermediate=True)
    found: dict[str, Any] = {
        "auroc": float(auc(false, true)),
        "auprc": float(-(np.diff(recall) * precision[:-1]).sum()),  # as `average_precision_score` defines it
        "mean_auroc": _mean(roc_auc_score(one.mask, one.values) for one in abnormal),
        "mean_auprc": _mean(average_precision_score(one.mask, one.values) for one in abnormal),
        "oracle_dice": largest_dice(precision, recall, thresholds)[0],
    }
    if threshold is not None:
        found |= {
            "threshold": threshold.value,
            "rule": threshold.rule,
            "dice": dice(values >= threshold.value, truth),
            "mean_dice": _mean(dice(one.values >= threshold.value, one.mask) for one in abnormal),
        }
    return found


def chance(volumes: Sequence[VolumeVoxels]) -> dict[str, float]:
    """What values without any information reach: AUPRC is the share of abnormal voxels, Dice that of calling all voxels abnormal."""
    _, truth = pooled(volumes)
    share = float(truth.mean())
    abnormal = [one.mask.mean() for one in volumes if one.mask is not None and one.mask.any() and not one.mask.all()]
    return {
        "auroc": 0.5,
        "auprc": share,
        "mean_auroc": 0.5,
        "mean_auprc": _mean(abnormal),
        "dice": 2 * share / (1 + share),
        "mean_dice": _mean(2 * part / (1 + part) for part in abnormal),
    }


def dice(found: np.ndarray, truth: np.ndarray | None) -> float:
    """2 |A ∩ B| / (|A| + |B|) of two (V,) arrays of booleans; 1 where both are empty."""
    assert truth is not None
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


def _mean(values: Any) -> float:
    return float(np.mean([float(value) for value in values]))
