"""`relatent anomaly detect`: results, statuses and refusals."""

import json

import pytest
from cubes import write_cubes
from relatent.cli.main import main
from relatent.systems.anomaly.maps.reader import MapReader
from tiny_vqvae import save_checkpoint


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with volumes to train on and to judge, and a model's checkpoint."""
    monkeypatch.chdir(tmp_path)
    write_cubes(tmp_path / "training", 5)
    write_cubes(tmp_path / "volumes", 2, seed=1)
    save_checkpoint(tmp_path / "last.ckpt", dataset={"volume_size": 8})
    return tmp_path


MODEL = ["--model", "last.ckpt", "--device", "cpu"]
TRAIN = ["anomaly", "detect", "volumes", "out", "--train", "training", *MODEL]


def test_it_trains_judges_and_is_used_again(place, capsys):
    assert main([*TRAIN, "--labels", "slices", "--epochs", "2", "--to", "hdf5,npy", "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert (found["method"], found["counts"]["done"], found["synthetic"]) == ("detector", 4, True)
    assert found["identity"]["detector_settings"]["labels"] == "slices"
    assert [line["epoch"] for line in found["training"]] == [1, 2]
    assert "epoch 2/2: validation loss" in told.err
    assert found["detector"] == "out/detector.ckpt"
    before = (place / "out" / "detector.ckpt").read_bytes()
    assert main([*TRAIN, "--labels", "slices", "--epochs", "2", "--to", "hdf5,npy"]) == 0  # done already
    told = capsys.readouterr()
    assert "4 of 4 volumes, done, detector by last.ckpt" in told.out
    assert "epoch" not in told.err
    assert (place / "out" / "detector.ckpt").read_bytes() == before
    assert main(["anomaly", "detect", "volumes", "again", "--detector", "out/detector.ckpt", *MODEL]) == 0
    with MapReader("out") as one, MapReader("again") as other:
        assert one.method == "detector"
        assert {"mean_error", "max_probability", "top_probability", "mean_probability"} <= one.scores.keys()
        assert 0 <= one.error(0).min() < one.error(0).max() <= 1
        assert (one.error(3) == other.error(3)).all()
        assert one.identity == other.identity


def test_refusals(place, capsys):
    def refused(*arguments):
        assert main(list(arguments)) == 2
        told = capsys.readouterr()
        assert told.err.count("\n") == 1
        return told.err

    shared = ["anomaly", "detect", "training", "leak"]
    assert "the detector's training has the patient s0p0" in refused(*shared, "--train", "training", *MODEL)
    assert main([*TRAIN, "--epochs", "1"]) == 0
    capsys.readouterr()
    assert "has the patient s0p0" in refused(*shared, "--detector", "out/detector.ckpt", *MODEL)
    assert not (place / "leak").exists()
    assert "another training: settings differ" in refused(*TRAIN, "--epochs", "2")
    use = ["anomaly", "detect", "volumes", "other", "--detector"]
    assert "--epochs goes with --train" in refused(*use, "out/detector.ckpt", "--epochs", "1", *MODEL)
    assert "cannot be read as a detector" in refused(*use, "last.ckpt", *MODEL)
    save_checkpoint(place / "else.ckpt", seed=1, dataset={"volume_size": 8})
    assert "maps of another model" in refused(*use, "out/detector.ckpt", "--model", "else.ckpt", "--device", "cpu")
