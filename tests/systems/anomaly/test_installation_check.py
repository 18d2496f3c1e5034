"""The seven steps hold here, and each says what does not."""

from importlib.metadata import PackageNotFoundError

import pytest
import torch
from relatent.engine.vector_quantiser import VectorQuantiser
from relatent.systems.anomaly import installation_check
from relatent.systems.anomaly.data import procedural
from relatent.systems.anomaly.installation_check import MALICIOUS, STEPS, check_installation
from relatent.systems.anomaly.maps.error_mapper import ErrorMapper
from relatent.systems.anomaly.model.vqvae import VQVAE3D, Reconstruction
from relatent.systems.anomaly.training import run


def test_all_seven_hold_here_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    steps = list(check_installation())
    assert [step.name for step in steps if not step.ok] == []
    assert [step.name for step in steps] == list(STEPS)
    assert len(steps) == 7
    assert list(tmp_path.iterdir()) == []


def found(name, folder):
    """What one step alone says of a failure."""
    with pytest.raises(Exception, match=r".") as error:
        STEPS[name](folder)
    return str(error.value)


def test_packages(tmp_path, monkeypatch):
    real = installation_check.version
    for bad in MALICIOUS["lightning"]:
        monkeypatch.setattr(
            installation_check, "version", lambda name, bad=bad: bad if name == "lightning" else real(name)
        )
        assert "malicious release" in found("packages", tmp_path)

    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(installation_check, "version", absent)
    assert "pip install 'relatent[anomaly]'" in found("packages", tmp_path)


def test_configuration(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text("model: {codes: 3}\ndataset: {}\ntraining: {}\n")
    monkeypatch.setattr(run, "CONFIG_FOLDER", tmp_path)
    assert "unknown key model.codes" in found("configuration", tmp_path)


def test_model(tmp_path, monkeypatch):
    monkeypatch.setattr(installation_check, "PARAMETERS", 12)
    assert "has 11602784 parameters, expected 12" in found("model", tmp_path)


def test_quantiser(tmp_path, monkeypatch):
    before = VectorQuantiser.forward
    monkeypatch.setattr(VectorQuantiser, "_update", lambda *_: None)
    assert "do not follow" in found("quantiser", tmp_path)
    monkeypatch.setattr(VectorQuantiser, "forward", lambda self, z: before(self, z * 2))
    assert "straight through" in found("quantiser", tmp_path)


def test_a_failed_step_is_one_line_and_the_others_go_on(monkeypatch):
    def fail(*_, **__):
        raise OSError("disk\nfull")

    monkeypatch.setattr(procedural, "write_procedural", fail)
    steps = {step.name: step for step in check_installation()}
    assert steps["data"].detail == "OSError: disk full"
    assert [name for name, step in steps.items() if not step.ok] == ["data", "training"]  # which needs the data


def test_training(tmp_path, monkeypatch):
    STEPS["data"](tmp_path)

    def perfect(self, x):
        return Reconstruction(x, torch.zeros(()), torch.ones(()), torch.zeros(1))

    evaluated = ErrorMapper.map

    def mapped(self, volumes):
        monkeypatch.setattr(VQVAE3D, "forward", perfect)
        return evaluated(self, volumes)

    monkeypatch.setattr(ErrorMapper, "map", mapped)
    assert "error map has" in found("training", tmp_path)
