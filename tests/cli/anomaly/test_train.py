"""anomaly train, from the command to the fold's folder, and what it refuses in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import strict
from relatent.cli.main import main
from relatent.systems.anomaly.data.volume_folder import read_folder
from relatent.systems.anomaly.model.checkpoint import load_model
from small_volumes import write_volumes

DEBUG = ["--config-name=config_debug", "training.epochs=1"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_volumes(tmp_path / "volumes")


def run(*words):
    return main(["anomaly", "train", *words])


def test_a_debug_run(data, capsys):
    """Three epochs in batches of two, with as many codes as were asked for; then it is finished."""
    command = ["fold_id=3", "--config-name=config_debug", "model.num_embeddings=64", *data]
    assert run(*command, "--json") == 0
    found = strict(capsys.readouterr().out)
    folder = Path("outputs", "vqvae_debug", "fold_3")
    assert found["folder"] == str(folder)
    assert found["epochs"] == 3
    assert 0 < found["val/total_loss"] < 10
    assert load_model(Path(found["checkpoint"])).config.num_embeddings == 64
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["dataset"]["batch_size"], config["training"]["precision"]) == (2, "32-true")
    assert run(*command) == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}: {value}" for name, value in found.items()]


def refused(capsys, *words):
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert not Path("outputs").exists()
    return line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.codes=3"], "model.codes"),
        (["+model.codes=3"], "unknown key model.codes; known are in_channels"),
        (["+training.speed=3"], "unknown key training.speed"),
        (["dataset.volume_size=40"], "multiple of 16"),
        (["--config-name=other"], "other"),
        (["fold_id=4"], "expected 1 to 3, found 4"),
        (["volumes"], "volumes"),
        (["dataset.folds_file=absent.json"], "absent.json cannot be read"),
        (["dataset.data_dir=absent"], "absent is no folder"),
    ],
)
def test_what_does_not_fit_is_one_line(data, capsys, words, message):
    assert message in refused(capsys, *DEBUG, *data, *words)


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ({"folds": [["p0"], ["p1"], ["p2"]]}, "the folds do not know the patient p3"),
        ({"folds": [["p0", "p3"], ["p1"], ["p2", "p3"]]}, "patient p3 is in the folds 1 and 3"),
        ({"folds": [["p0"], ["p1"], ["p2", "p3"]], "held_out": ["p1"]}, "patient p1 is held out and in a fold"),
        ({"folds": [["px"], ["p1"], ["p2", "p3"]], "held_out": ["p0"]}, "0 to validate"),
    ],
)
def test_folds_that_leak_or_do_not_know_a_patient_are_one_line(data, capsys, folds, message):
    Path("volumes", "folds.json").write_text(json.dumps(folds))
    assert message in refused(capsys, *DEBUG, *data)


def test_volumes_that_cannot_be_used_are_a_line_each_and_the_others_train(data, capsys, caplog):
    folder = Path("volumes")
    bad = {
        "vol_p1_L1.npy": np.full((32, 32, 32), np.nan, np.float32),
        "vol_p1_T12.npy": np.zeros((32, 32), np.float32),
        "vol_p2_L1.npy": np.full((2, 2, 2), None),
        "other.npy": np.zeros((32, 32, 32), np.float32),
    }
    for name, values in bad.items():
        np.save(folder / name, values, allow_pickle=True)
    whole = (folder / "vol_p0_L1.npy").read_bytes()
    (folder / "vol_p0_L1.npy").write_bytes(whole[:999])
    assert run(*DEBUG, *data, "fold_id=1", "dataset.num_workers=1") == 0
    lines = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    for name in [*bad, "vol_p0_L1.npy"]:
        assert sum(name in line for line in lines) == 1, lines
    assert len(lines) == 5
    assert not any("\n" in line for line in lines)


def test_abnormal_volumes_never_train(data, capsys):
    index = json.loads(Path("volumes", "volumes.json").read_text())
    for name in index["volumes"]:
        index["volumes"][name]["label"] = int("_L1" in name)
    Path("volumes", "volumes.json").write_text(json.dumps(index))
    assert sum(volume.label for volume in read_folder("volumes")[0]) == 4
    assert run(*DEBUG, *data) == 0
    for name in index["volumes"]:
        index["volumes"][name]["label"] = 1
    Path("volumes", "volumes.json").write_text(json.dumps(index))
    assert run(*DEBUG, *data) == 2
    assert "0 to train and 0 to validate" in capsys.readouterr().err
