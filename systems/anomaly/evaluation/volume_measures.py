"""How well a score tells abnormal volumes."""

from typing import Any

import numpy as np

from ..maps.reader import MapReader
from .calibration import Threshold

REPLICATES = 2000
FOREGROUND = 0.5  # voxels above it count for the baseline that knows a volume's size alone


def volume_measures(values: np.ndarray, abnormal: np.ndarray, threshold: Threshold | None = None) -> dict[str, Any]:
    """AUROC with a 95 % interval, AUPRC, and the figures at a threshold that was calibrated elsewhere.

    values: (N,) floats, larger is more anomalous. abnormal: (N,) booleans of both kinds.
    """
    from sklearn.metrics import average_precision_score, confusion_matrix, f1_score, roc_auc_score

    found: dict[str, Any] = {
        "auroc": float(roc_auc_score(abnormal, values)),
        "auroc_interval": bootstrap_interval(values, abnormal),
        "auprc": float(average_precision_score(abnormal, values)),
    }
    if threshold is None:
        return found
    positive = values >= threshold.value
    (true_negative, false_positive), (false_negative, true_positive) = confusion_matrix(abnormal, positive).tolist()
    sensitivity = true_positive / (true_positive + false_negative)
    specificity = true_negative / (true_negative + false_positive)
    return found | {
        "threshold": threshold.value,
        "rule": threshold.rule,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "f1": float(f1_score(abnormal, positive, zero_division=0)),
    }


def bootstrap_interval(values: np.ndarray, abnormal: np.ndarray, seed: int = 0) -> list[float]:
    """The 2.5th and 97.5th percentile of AUROC over `REPLICATES` draws with replacement, of each kind as many as there are.

    AUROC is the Mann–Whitney U of the two kinds over the number of pairs.
    """
    from scipy.stats import mannwhitneyu

    rng = np.random.default_rng(seed)
    low, high = values[~abnormal], values[abnormal]
    areas = []
    for _ in range(REPLICATES // 100):  # a hundred at a time, for the memory
        drawn = [kind[rng.integers(len(kind), size=(100, len(kind)))] for kind in (high, low)]
        u = mannwhitneyu(*drawn, axis=1, method="asymptotic").statistic
        areas.append(u / (len(low) * len(high)))
    return [float(edge) for edge in np.percentile(np.concatenate(areas), (2.5, 97.5))]


def foreground_counts(maps: MapReader) -> np.ndarray:
    """The number of voxels above `FOREGROUND` of each volume: (N,) int64."""
    return np.array([int((maps.volume(i) > FOREGROUND).sum()) for i in range(len(maps))], np.int64)
