"""`relatent anomaly restore` and `demo`: results, statuses and refusals."""

import json

import pytest
from relatent.cli.main import main
from relatent.systems.anomaly.maps.reader import MapReader
from tiny_vqvae import save_checkpoint, write_volumes


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with volumes and a checkpoint."""
    monkeypatch.chdir(tmp_path)
    write_volumes(tmp_path / "volumes", 3)
    save_checkpoint(tmp_path / "last.ckpt", dataset={"volume_size": 16})
    return tmp_path


RESTORE = ["anomaly", "restore", "volumes", "out", "--model", "last.ckpt", "--device", "cpu", "--iterations", "3"]


def test_restored_volumes(place, capsys):
    assert main([*RESTORE, "--prior", "nearest-code", "--precision", "fp32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["method"], found["counts"]["done"]) == ("restoration", 3)
    assert found["identity"]["optimization"]["precision"] == "fp32"
    with MapReader("out") as maps:
        assert (maps.scores["moved"] > 0).all()
    assert main([*RESTORE, "--prior", "nearest-code"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "precision" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prior", "normal"], "expected one of none, nearest-code, mixture, code-prior"),
        (["--prior", "mixture"], "--normal"),
        (["--preset", "slow"], "fast, balanced, best"),
        (["--prior", "none", "--loss", "l3"], "l3"),
        (["--prior", "none", "--prior-weight", "-1"], "weight"),
        (["--normal", "volumes"], "patient p000 is in volumes and among the volumes to be judged"),
    ],
)
def test_refusals_are_one_line(place, capsys, options, message):
    assert main([*RESTORE, *options]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert message in told.err
    assert not (place / "out" / "run.json").exists()
