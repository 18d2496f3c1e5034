"""Thresholds against those found by hand."""

import inspect

import numpy as np
import pytest
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.evaluation import calibration
from relatent.systems.anomaly.evaluation.calibration import (
    best_dice,
    score_threshold,
    stored_thresholds,
    voxel_threshold,
)
from relatent.systems.anomaly.evaluation.voxels import VolumeVoxels
from relatent.systems.anomaly.maps.reader import MapReader


def test_the_largest_youden_index_lies_halfway_between_two_scores():
    found = score_threshold(np.array([1, 2, 3, 4, 5, 9.0]), np.array([0, 0, 0, 1, 1, -1]))
    assert (found.value, found.rule) == (3.5, "largest Youden index")
    # at 4: 2/2 − 1/4; at 2: 2/2 − 3/4; at 5: 1/2 − 0
    found = score_threshold(np.array([1, 2, 3, 6, 4, 5.0]), np.array([0, 0, 0, 0, 1, 1]))
    assert found.value == 3.5


def test_scores_that_separate_nothing_still_have_a_threshold():
    assert score_threshold(np.ones(4), np.array([0, 1, 0, 1])).value == 1.0


def test_with_normal_volumes_alone_the_95th_percentile():
    found = score_threshold(np.arange(101.0), np.full(101, 0))
    assert (found.value, found.rule) == (95.0, "95th percentile of normal")
    assert score_threshold(np.arange(3.0), np.array([1, -1, 1])) is None


def test_the_largest_dice():
    values, truth = np.array([0.1, 0.9, 0.8, 0.4], np.float32), np.array([False, True, False, True])
    # at 0.4: two of three are found rightly, none is missed
    dice, threshold = best_dice(values, truth)
    assert (dice, threshold) == (pytest.approx(0.8), pytest.approx(0.4))
    assert voxel_threshold([VolumeVoxels(values, truth, 1)]).value == pytest.approx(0.4)


def test_without_masks_the_99th_percentile_of_normal_voxels():
    values = np.arange(101, dtype=np.float32)
    found = voxel_threshold([VolumeVoxels(values, np.zeros(101, bool), 0), VolumeVoxels(values + 1000, None, 1)])
    assert (found.value, found.rule) == (99.0, "99th percentile of normal")
    assert voxel_threshold([VolumeVoxels(values, None, 1)]) is None


def test_nothing_that_calibrates_is_given_the_set_that_is_judged():
    assert list(inspect.signature(calibration.calibrate).parameters) == ["validation", "source", "sigma", "with_voxels"]
    readers = [
        name
        for name, one in inspect.getmembers(calibration, inspect.isfunction)
        if MapReader in inspect.get_annotations(one).values() and one.__module__ == calibration.__name__
    ]
    assert readers == ["calibrate"]  # nothing else there reads maps, and it reads one set


def test_stored_thresholds():
    found = stored_thresholds({"mean_error": 0.5}, "x.ckpt")
    assert (found.scores["mean_error"].value, found.scores["mean_error"].rule) == (0.5, "stored with the model")
    for wrong in ([0.5], {"mean_error": "0.5"}, {"mean_error": float("nan")}):
        with pytest.raises(UsageError, match="expected finite numbers"):
            stored_thresholds(wrong, "x.ckpt")
