"""Whole evaluations of maps on disk."""

import json

import numpy as np
import pytest
from anomaly_maps import LevelMapper, make_maps
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.data.volume_folder import add_to_index
from relatent.systems.anomaly.evaluation.run import evaluate_maps, write_evaluation
from relatent.systems.anomaly.evaluation.tables import markdown_tables
from relatent.systems.anomaly.maps.reader import MapReader
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score, roc_auc_score


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return make_maps(tmp_path_factory.mktemp("test"), seed=1)


@pytest.fixture(scope="module")
def validation(tmp_path_factory):
    return make_maps(tmp_path_factory.mktemp("validation"), seed=2)


def relabel(folder, seed, label):
    """The maps of `make_maps`, whose volumes all have this label and no mask."""
    make_maps(folder, seed)  # for its volumes
    names = {path.name: {"label": label, "synthetic": True} for path in (folder / "volumes").glob("*.npy")}
    add_to_index(folder / "volumes", names, synthetic=True)
    for path in (folder / "volumes" / "masks").iterdir():
        path.unlink()
    from relatent.systems.anomaly.data.volume_folder import read_folder
    from relatent.systems.anomaly.maps.run import write_maps

    write_maps(folder / "again", read_folder(folder / "volumes")[0], LevelMapper())
    return folder / "again"


def test_figures_are_those_of_the_files(maps, validation):
    result = evaluate_maps(maps, validation)
    with MapReader(maps) as reader:
        errors = np.stack([reader.error(i) for i in range(12)])
        masks = np.stack([reader.mask(i) for i in range(12)])
        sizes = [(reader.volume(i) > 0.5).sum() for i in range(12)]
        abnormal, scores = reader.labels == 1, reader.scores["mean_error"]
    assert result["volumes"] == {"all": 12, "normal": 6, "abnormal": 6}
    assert (result["synthetic"], result["method"], result["side"]) == (True, "error", 16)
    assert result["scores"]["mean_error"]["auroc"] == pytest.approx(roc_auc_score(abnormal, scores))
    assert result["scores"].keys() == {"mean_error", "max_error"}
    baselines = result["score_baselines"]
    assert baselines["more voxels above 0.5"]["auroc"] == pytest.approx(roc_auc_score(abnormal, sizes))
    assert baselines["fewer voxels above 0.5"]["auroc"] == pytest.approx(1 - roc_auc_score(abnormal, sizes))
    assert baselines["chance"]["auprc"] == 0.5
    voxels = result["voxels"]
    assert voxels["auroc"] == pytest.approx(roc_auc_score(masks.ravel(), errors.ravel()), abs=1e-6)
    assert voxels["auprc"] == pytest.approx(average_precision_score(masks.ravel(), errors.ravel()), abs=1e-6)
    assert voxels["dice"] <= voxels["oracle_dice"]
    found = errors >= voxels["threshold"]
    assert voxels["dice"] == pytest.approx(2 * (found & masks).sum() / (found.sum() + masks.sum()))
    assert result["voxel_baselines"]["chance, Dice of all voxels"]["auprc"] == pytest.approx(masks.mean())
    assert 0.5 < result["voxel_baselines"]["|x − mean normal|"]["auroc"] < 1
    assert result["error_statistics"]["inside_masks"]["voxels"] == masks.sum()
    assert result["error_statistics"]["inside_masks"]["mean"] == pytest.approx(errors[masks].mean(), rel=1e-5)
    assert result["notes"] == []


def test_thresholds_are_the_validation_sets_alone(maps, validation, tmp_path):
    other = make_maps(tmp_path, seed=3, count=10)
    first, second = (evaluate_maps(one, validation) for one in (maps, other))
    assert first["voxels"]["auroc"] != second["voxels"]["auroc"]
    for name in ("mean_error", "max_error"):
        assert first["scores"][name]["threshold"] == second["scores"][name]["threshold"]
    assert first["voxels"]["threshold"] == second["voxels"]["threshold"]
    assert evaluate_maps(maps, other)["voxels"]["threshold"] != first["voxels"]["threshold"]


def test_sets_that_do_not_fit_are_refused(maps, validation, tmp_path):
    with pytest.raises(UsageError, match="in the maps and in those for validation"):
        evaluate_maps(maps, maps)
    with pytest.raises(UsageError, match="another model or with other settings"):
        evaluate_maps(maps, make_maps(tmp_path, 4, 2, LevelMapper(0.2)))
    with pytest.raises(UsageError, match="'nothing' is none of the maps' scores: max_error, mean_error"):
        evaluate_maps(maps, validation, score="nothing")
    with pytest.raises(UsageError, match="--smooth is -1"):
        evaluate_maps(maps, validation, sigma=-1)


def test_smoothing_changes_voxels_alone(maps, validation):
    plain, smooth = (evaluate_maps(maps, validation, "max_error", sigma) for sigma in (0, 1))
    assert plain["scores"].keys() == {"max_error"}
    for same in ("scores", "score_baselines", "error_statistics"):
        assert plain[same] == smooth[same]
    with MapReader(maps) as reader:
        errors = np.stack([gaussian_filter(reader.error(i), 1) for i in range(12)])
        masks = np.stack([reader.mask(i) for i in range(12)])
    assert smooth["voxels"]["auroc"] == pytest.approx(roc_auc_score(masks.ravel(), errors.ravel()), abs=1e-6)
    names = "|x − mean normal|"
    assert plain["voxel_baselines"][names]["auroc"] != smooth["voxel_baselines"][names]["auroc"]
    assert "smoothed by 1 voxels" in markdown_tables(smooth)


def test_without_a_validation_set_there_are_no_thresholds(maps):
    result = evaluate_maps(maps)
    assert result["calibration"] is None
    assert not {"threshold", "sensitivity"} & result["scores"]["mean_error"].keys()
    assert "dice" not in result["voxels"]
    assert "no figures at a threshold: no validation set; give --validation MAPS" in result["notes"]


def test_where_no_label_is_known_there_are_statistics_alone(tmp_path, validation):
    result = evaluate_maps(relabel(tmp_path, 5, None), validation)
    assert (result["scores"], result["voxels"]) == (None, None)
    assert result["error_statistics"].keys() == {"unlabelled"}
    assert "no label is known: there are no figures of volumes" in result["notes"]
    text = markdown_tables(result)
    assert "12 volumes of 16³, 0 normal, 0 abnormal, 12 without a label" in text
    assert "AUROC" not in text
    assert "- no label is known" in text


def test_normal_volumes_alone(tmp_path, maps):
    normal = relabel(tmp_path, 6, 0)
    result = evaluate_maps(maps, normal)
    assert result["scores"]["mean_error"]["rule"] == "95th percentile of normal"
    assert result["voxels"]["rule"] == "99th percentile of normal"
    assert "all volumes with a label are normal" in evaluate_maps(normal)["notes"][1]


def test_maps_without_volumes(tmp_path, validation):
    result = evaluate_maps(make_maps(tmp_path, 7, keep_volumes=False), validation)
    assert result["score_baselines"].keys() == {"chance"}
    assert result["voxel_baselines"].keys() == {"chance, Dice of all voxels"}
    assert len(result["notes"]) == 2


def test_the_files(maps, validation, tmp_path):
    result = evaluate_maps(maps, validation)
    write_evaluation(result, tmp_path / "out")
    assert json.loads((tmp_path / "out/evaluation.json").read_text()) == json.loads(json.dumps(result))
    text = (tmp_path / "out/table.md").read_text()
    assert text == markdown_tables(result)
    headings = [line for line in text.splitlines() if (line.startswith("| ") and "AUROC" in line) or "median" in line]
    assert len(headings) == 3
    assert all("synthetic" in line for line in headings)
    assert f"| mean_error | {result['scores']['mean_error']['auroc']:.3f} (" in text
