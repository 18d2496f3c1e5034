"""Measures of volumes, of voxels, and statistics, against those computed by hand."""

import numpy as np
import pytest
from anomaly_maps import make_maps
from relatent.systems.anomaly.evaluation import voxels as voxels_module
from relatent.systems.anomaly.evaluation.calibration import Threshold
from relatent.systems.anomaly.evaluation.error_statistics import error_statistics
from relatent.systems.anomaly.evaluation.volume_measures import bootstrap_interval, volume_measures
from relatent.systems.anomaly.evaluation.voxel_measures import chance, dice, voxel_measures
from relatent.systems.anomaly.evaluation.voxels import VolumeVoxels, read_voxels
from relatent.systems.anomaly.maps.reader import MapReader
from sklearn.metrics import average_precision_score, roc_auc_score

VALUES, ABNORMAL = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])


def voxels(values, mask, label=1) -> VolumeVoxels:
    return VolumeVoxels(np.array(values, np.float32), None if mask is None else np.array(mask, bool), label)


def test_volume_measures():
    found = volume_measures(VALUES, ABNORMAL, Threshold(0.4, "by hand"))
    assert found["auroc"] == 0.75  # three of four pairs in order
    assert found["auprc"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert (found["sensitivity"], found["specificity"], found["balanced_accuracy"]) == (0.5, 0.5, 0.5)
    assert (found["f1"], found["rule"]) == (0.5, "by hand")
    assert "sensitivity" not in volume_measures(VALUES, ABNORMAL)


def test_what_equals_the_threshold_is_abnormal():
    found = volume_measures(np.array([1.0, 2.0]), np.array([False, True]), Threshold(2.0, ""))
    assert (found["sensitivity"], found["specificity"]) == (1, 1)
    found = volume_measures(np.array([1.0, 2.0]), np.array([False, True]), Threshold(3.0, ""))
    assert (found["sensitivity"], found["specificity"], found["f1"]) == (0, 1, 0)


def test_the_interval_is_seeded_and_holds_the_area():
    rng = np.random.default_rng(1)
    abnormal = np.arange(60) < 20
    values = rng.normal(size=60) + abnormal
    low, high = bootstrap_interval(values, abnormal)
    assert bootstrap_interval(values, abnormal) == [low, high]
    assert low < volume_measures(values, abnormal)["auroc"] < high
    assert 0.15 < high - low < 0.4  # 1.96 · 2 standard errors by Hanley and McNeil are 0.26
    assert bootstrap_interval(np.array([0.0, 1.0]), np.array([False, True])) == [1, 1]
    assert bootstrap_interval(np.zeros(2), np.array([False, True])) == [0.5, 0.5]


def test_voxel_measures():
    first = voxels([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    normal, unknown = voxels([0.2, 0.3, 0.0, 0.5], [0, 0, 0, 0], 0), voxels([9, 9, 9, 9], None)
    found = voxel_measures([first, normal, unknown], Threshold(0.35, "by hand"))
    assert found["auroc"] == pytest.approx((6 + 4) / 12)  # 0.8 is above all six, 0.35 above four
    assert (found["mean_auroc"], found["mean_auprc"]) == (0.75, pytest.approx(0.5 + 1 / 3))
    assert found["auprc"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    assert found["dice"] == pytest.approx(2 * 2 / (4 + 2))
    assert found["mean_dice"] == pytest.approx(2 * 2 / (3 + 2))
    assert found["oracle_dice"] == pytest.approx(2 / 3)  # 0.8 alone gives the same
    assert chance([first, normal, unknown]) == pytest.approx(
        {"auroc": 0.5, "auprc": 0.25, "mean_auroc": 0.5, "mean_auprc": 0.5, "dice": 0.4, "mean_dice": 2 / 3}
    )


def test_voxel_measures_need_both_kinds():
    assert voxel_measures([voxels([0.1, 0.2], [0, 0], 0)], None) is None
    assert voxel_measures([voxels([0.1, 0.2], None)], None) is None
    assert voxel_measures([], None) is None
    assert "dice" not in voxel_measures([voxels([0.1, 0.2], [0, 1])], None)


def test_dice():
    assert dice(np.array([True, True, False]), np.array([True, False, True])) == 0.5
    assert dice(np.zeros(2, bool), np.zeros(2, bool)) == 1


def test_error_statistics():
    found = error_statistics([voxels([1, 2, 3, 4], [1, 0, 0, 0]), voxels([0, 10], [0, 0], 0), voxels([5], None, -1)])
    assert {name: (one["voxels"], one["mean"], one["median"]) for name, one in found.items()} == {
        "normal": (2, 5, 5),
        "abnormal": (4, 2.5, 2.5),
        "unlabelled": (1, 5, 5),
        "inside_masks": (1, 1, 1),
        "outside_masks": (3, 3, 3),
    }
    assert found["abnormal"]["sd"] == pytest.approx(np.std([1, 2, 3, 4]))
    assert found["normal"]["p95"] == pytest.approx(9.5)


def test_many_voxels_are_measured_as_few_are():
    rng = np.random.default_rng(0)
    truth = rng.random(20_000) < 0.02
    values = np.round(rng.random(20_000) + truth, 2).astype(np.float32)  # many ties
    found = voxel_measures([VolumeVoxels(values, truth, 1)], None)
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
    assert found["auprc"] == pytest.approx(average_precision_score(truth, values), abs=1e-12)
    every = [dice(values >= threshold, truth) for threshold in np.unique(values)]
    assert found["oracle_dice"] == pytest.approx(max(every))


def test_of_too_many_voxels_the_same_share_is_drawn(tmp_path, monkeypatch):
    with MapReader(make_maps(tmp_path, seed=1, count=4)) as maps:
        every = read_voxels(maps)
        monkeypatch.setattr(voxels_module, "MAX_VOXELS", 4096)
        drawn, again = read_voxels(maps), read_voxels(maps, values_of=maps.volume)
    assert sum(len(one.values) for one in every) == 4 * 4096
    assert sum(len(one.values) for one in drawn) == pytest.approx(4096, rel=0.1)
    for one, other, whole in zip(drawn, again, every, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)  # the same voxels for map and baseline
        assert np.isin(one.values, whole.values).all()
        assert len(one.values) == len(one.mask)
