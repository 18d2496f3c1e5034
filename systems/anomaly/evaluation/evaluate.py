"""The figures of one set of maps."""

from typing import Any

import numpy as np

from ....engine.errors import UsageError
from ..data.volume import ABNORMAL, NORMAL
from ..maps.reader import MapReader
from .calibration import Calibration
from .error_statistics import error_statistics
from .volume_measures import FOREGROUND, foreground_counts, volume_measures
from .voxel_measures import chance, voxel_measures
from .voxels import read_voxels

SCHEMA = 1


def evaluate(maps: MapReader, calibration: Calibration, score: str | None = None, sigma: float = 0.0) -> dict[str, Any]:
    """All measures that the labels and masks of a set of maps allow, JSON-ready.

    calibration: the thresholds, which come from elsewhere. score: the one score to judge; all of them, if not given. sigma: of the
    Gaussian, in voxels, that smooths maps before the measures of voxels; scores and statistics are of the maps as they are. What
    cannot be computed is None, with a line under `notes`. Raises `UsageError` for an unknown score or a sigma below 0.
    """
    names = check_settings(maps, score, sigma)
    labels = np.asarray(maps.labels)
    notes = [] if calibration.scores else [f"no figures at a threshold: {calibration.source}"]
    if missing := [name for name in names if calibration.scores and name not in calibration.scores]:
        notes.append(f"no threshold is known for {', '.join(missing)}")
    statistics = error_statistics(read_voxels(maps))
    scores, baselines = _scores(maps, calibration, names, notes)
    voxels, voxel_baselines = _voxels(maps, calibration, sigma, notes)
    return {
        "schema": SCHEMA,
        "method": maps.method,
        "identity": maps.identity,
        "synthetic": maps.synthetic,
        "side": maps.side,
        "smooth": sigma,
        "volumes": {
            "all": len(maps),
            "normal": int((labels == NORMAL).sum()),
            "abnormal": int((labels == ABNORMAL).sum()),
        },
        "calibration": calibration.source if calibration.scores else None,
        "scores": scores,
        "score_baselines": baselines,
        "voxels": voxels,
        "voxel_baselines": voxel_baselines,
        "error_statistics": statistics,
        "notes": notes,
    }


def check_settings(maps: MapReader, score: str | None, sigma: float) -> list[str]:
    """The names of the scores to judge. Raises `UsageError`."""
    if not 0 <= sigma < maps.side:
        raise UsageError(f"--smooth is {sigma}; give a number of voxels from 0 to the maps' side, {maps.side}")
    if score is not None and score not in maps.scores:
        raise UsageError(f"--score {score!r} is none of the maps' scores: {', '.join(maps.scores)}")
    return list(maps.scores) if score is None else [score]


def _scores(
    maps: MapReader, calibration: Calibration, names: list[str], notes: list[str]
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What each score reaches, and beside it what the volume's size alone and chance do."""
    labels = np.asarray(maps.labels)
    known = (labels == NORMAL) | (labels == ABNORMAL)
    abnormal = labels[known] == ABNORMAL
    if not known.any():
        notes.append("no label is known: there are no figures of volumes")
        return None, None
    if abnormal.all() or not abnormal.any():
        kind = "abnormal" if abnormal.all() else "normal"
        notes.append(
            f"all volumes with a label are {kind}: there is nothing to tell them from, and no figures of volumes"
        )
        return None, None
    found = {
        name: volume_measures(np.asarray(maps.scores[name])[known], abnormal, calibration.scores.get(name))
        for name in names
    }
    chance = {"chance": {"auroc": 0.5, "auprc": float(abnormal.mean())}}
    if not maps.header.keep_volumes:
        notes.append("no baseline of a volume's size: the maps were made without the volumes")
        return found, chance
    size = foreground_counts(maps)[known].astype(np.float64)
    return found, {
        f"more voxels above {FOREGROUND:g}": volume_measures(size, abnormal),
        f"fewer voxels above {FOREGROUND:g}": volume_measures(-size, abnormal),
    } | chance


def _voxels(
    maps: MapReader, calibration: Calibration, sigma: float, notes: list[str]
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What the maps reach, and beside it what the distance from the mean normal volume and chance do."""
    voxels = read_voxels(maps, sigma)
    measures = voxel_measures(voxels, calibration.voxels)
    if measures is None:
        notes.append("no abnormal voxel is known: there are no figures of voxels")
        return None, None
    baselines: dict[str, Any] = {"chance, Dice of all voxels": chance(voxels)}
    mean = calibration.mean_normal
    if mean is not None and maps.header.keep_volumes:
        distance = read_voxels(maps, sigma, lambda i: np.abs(maps.volume(i) - mean))
        baselines["|x − mean normal|"] = voxel_measures(distance, calibration.intensity) or {}
    else:
        notes.append("no baseline |x − mean normal|: it takes normal volumes for validation, kept with the maps")
    return measures, baselines
