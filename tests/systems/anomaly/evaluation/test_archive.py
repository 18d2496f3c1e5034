"""Evaluation of a split of an archive, its maps made first."""

import numpy as np
import pytest
from anomaly_maps import make_archive, make_checkpoint
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.data.errors import VolumeError
from relatent.systems.anomaly.data.volume_archive import read_archive
from relatent.systems.anomaly.evaluation.archive import evaluate_archive
from relatent.systems.anomaly.maps.error_mapper import ErrorMapper
from relatent.systems.anomaly.maps.reader import MapReader
from sklearn.metrics import roc_auc_score


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An archive with the test split alone, one with val beside it, and a checkpoint."""
    folder = tmp_path_factory.mktemp("archive")
    alone, both = make_archive(folder / "alone.npz", "test"), make_archive(folder / "both.npz", "test", "val")
    return alone, both, make_checkpoint(folder / "model.ckpt")


def test_an_archive_with_a_test_split_alone(files, tmp_path):
    alone, _, checkpoint = files
    result = evaluate_archive(alone, "test", checkpoint, out=tmp_path)
    assert result["volumes"] == {"all": 12, "normal": 8, "abnormal": 4}
    assert (result["data"], result["split"], result["calibration"]) == ("alone.npz", "test", None)
    assert "the archive has no split 'val', and no threshold is stored with the model" in result["notes"][0]
    assert result["voxels"] is None
    sizes = [volume.read().sum() for volume in read_archive(alone, "test")]
    expected = roc_auc_score(np.arange(12) % 3 == 0, sizes)
    assert result["score_baselines"]["more voxels above 0.5"]["auroc"] == pytest.approx(expected)
    assert result["score_baselines"]["fewer voxels above 0.5"]["auroc"] == pytest.approx(1 - expected)
    assert expected > 0.8
    with MapReader(tmp_path / "test") as reader:
        assert reader.identity["checkpoint"] == "model.ckpt"
        expected = roc_auc_score(np.arange(12) % 3 == 0, reader.scores["mean_error"])
        assert result["scores"]["mean_error"]["auroc"] == pytest.approx(expected)


def test_thresholds_come_from_val_where_it_is_there(files, tmp_path):
    _, both, checkpoint = files
    result = evaluate_archive(both, "test", checkpoint, out=tmp_path)
    assert result["calibration"] == "the 12 volumes of the split 'val'"
    assert result["scores"]["mean_error"]["rule"] == "largest Youden index"
    assert {path.name for path in tmp_path.iterdir()} == {"test", "val"}
    with MapReader(tmp_path / "val") as reader:
        scores = reader.scores["mean_error"]
    assert scores.min() <= result["scores"]["mean_error"]["threshold"] <= scores.max()


def test_thresholds_stored_with_the_model_serve_for_test_alone(files, tmp_path):
    alone, both, _ = files
    checkpoint = make_checkpoint(tmp_path / "stored.ckpt", calibration={"mean_error": 0.3})
    found = evaluate_archive(alone, "test", checkpoint)
    assert found["calibration"] == "stored in stored.ckpt"
    assert found["scores"]["mean_error"]["threshold"] == 0.3
    assert "threshold" not in found["scores"]["max_error"]
    assert "no threshold is known for max_error, p99_error, peak_error" in found["notes"]
    other = evaluate_archive(both, "val", checkpoint)
    assert other["calibration"] is None
    assert "thresholds stored with a model serve for 'test' alone" in other["notes"][0]
    damaged = make_checkpoint(tmp_path / "damaged.ckpt", calibration=[0.3])
    with pytest.raises(UsageError, match="expected finite numbers by the scores' names"):
        evaluate_archive(alone, "test", damaged)


def test_maps_that_are_there_are_not_made_again(files, tmp_path, monkeypatch):
    alone, _, checkpoint = files
    first = evaluate_archive(alone, "test", checkpoint, out=tmp_path, limit=5)
    assert first["volumes"]["all"] == 5
    with MapReader(tmp_path / "test") as reader:
        assert reader.names == [f"alone-test-{i:05d}" for i in (0, 3, 6, 8, 11)]  # evenly spread
    monkeypatch.setattr(ErrorMapper, "map", None)
    assert evaluate_archive(alone, "test", checkpoint, out=tmp_path, limit=5) == first


def test_what_does_not_fit_is_refused(files, tmp_path):
    alone, _, checkpoint = files
    with pytest.raises(UsageError, match="must not come from what they are tried on"):
        evaluate_archive(alone, "test", checkpoint, calibrate_on="test")
    with pytest.raises(VolumeError, match="has no split 'train'"):
        evaluate_archive(alone, "test", checkpoint, calibrate_on="train")
    with pytest.raises(UsageError, match="--limit is 0"):
        evaluate_archive(alone, "test", checkpoint, limit=0)
    with pytest.raises(UsageError, match="neither a checkpoint nor a bundled model"):
        evaluate_archive(alone, "test", tmp_path / "none.ckpt")
