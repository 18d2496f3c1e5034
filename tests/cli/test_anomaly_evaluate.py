"""The subcommands anomaly evaluate and anomaly report."""

import json
from pathlib import Path

import numpy as np
import pytest
from anomaly_maps import make_archive, make_checkpoint, make_maps
from relatent.cli.main import main

ADRENAL = Path(__file__).resolve().parents[3] / "shared/data/volumes/medmnist3d/adrenalmnist3d_64_train_val.npz"


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return make_maps(tmp_path_factory.mktemp("cli"), seed=1)


def test_maps(maps, tmp_path, capsys):
    validation = make_maps(tmp_path, seed=2)
    arguments = ["anomaly", "evaluate", str(maps), "--validation", str(validation), "--score", "mean_error"]
    assert main([*arguments, "--smooth", "1", "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "| mean_error | " in text
    assert "synthetic" in text
    assert "smoothed by 1 voxels" in text
    assert main([*arguments, "--json", "--smooth", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "out/evaluation.json").read_text())
    assert (tmp_path / "out/table.md").read_text().strip() == text.strip()


def test_an_archive(tmp_path, capsys):
    data, checkpoint = make_archive(tmp_path / "a.npz", "test"), make_checkpoint(tmp_path / "m.ckpt")
    arguments = ["--data", str(data), "--split", "test", "--model", str(checkpoint), "--out", str(tmp_path / "out")]
    assert main(["anomaly", "evaluate", *arguments, "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["volumes"] == {"all": 12, "normal": 8, "abnormal": 4}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"test", "evaluation.json", "table.md"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either MAPS or --data FILE.npz"),
        (["maps", "--data", "a.npz"], "give either MAPS or --data FILE.npz"),
        (["maps", "--limit", "3"], "--limit goes with --data FILE.npz, not with MAPS"),
        (["maps", "--calibrate-on", "val"], "--calibrate-on goes with --data FILE.npz"),
        (["--data", "a.npz"], "--data takes --split"),
        (["--data", "a.npz", "--split", "test", "--validation", "v"], "in place of --validation"),
        (["nowhere"], "nowhere"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["anomaly", "evaluate", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_report(maps, capsys):
    assert main(["anomaly", "report", str(maps), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(maps / "report.html")}
    assert "report.html" in {path.name for path in maps.iterdir()}
    assert main(["anomaly", "report", str(maps / "none")]) == 2
    assert "none" in capsys.readouterr().err


@pytest.mark.skipif(not ADRENAL.is_file(), reason="../shared/data/volumes is not here: it is not part of the project")
def test_a_real_archive_of_a_test_split_alone(tmp_path, capsys):
    with np.load(ADRENAL) as archive:
        images, labels = archive["val_images"][:, ::4, ::4, ::4], archive["val_labels"]
    picked = np.r_[np.flatnonzero(labels.ravel() == 0)[:8], np.flatnonzero(labels.ravel() == 1)[:4]]
    np.savez(tmp_path / "adrenal.npz", test_images=images[picked], test_labels=labels[picked])
    checkpoint = make_checkpoint(tmp_path / "m.ckpt", calibration={"mean_error": 0.4})
    arguments = ["--data", str(tmp_path / "adrenal.npz"), "--split", "test", "--model", str(checkpoint)]
    assert main(["anomaly", "evaluate", *arguments]) == 0
    text = capsys.readouterr().out
    assert (
        "12 volumes of 16³, 8 normal, 4 abnormal, 0 without a label; method: error. Thresholds: stored in m.ckpt."
        in text
    )
    assert "more voxels above 0.5" in text
