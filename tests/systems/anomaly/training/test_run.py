"""The configuration tree, a whole debug run, and the command line of Hydra."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.data.augmentation import Augmentation
from relatent.systems.anomaly.model.configuration import VQVAEConfig
from relatent.systems.anomaly.model.vqvae import build_vqvae_3d
from relatent.systems.anomaly.train import main
from relatent.systems.anomaly.training.datasets import build_datasets
from relatent.systems.anomaly.training.run import read_config, train
from relatent.systems.anomaly.training.settings import DatasetSettings, TrainingSettings


def test_the_defaults_are_the_specified_ones():
    config = read_config()
    assert VQVAEConfig.of(config["model"]) == VQVAEConfig()
    settings = TrainingSettings.of(config["training"])
    assert settings == TrainingSettings(wandb_tags=settings.wandb_tags)
    assert (config["seed"], config["dataset"]["batch_size"], config["dataset"]["volume_size"]) == (42, 4, 128)
    assert sum(each.numel() for each in build_vqvae_3d(config["model"]).parameters()) == 11_602_784


def test_the_debug_configuration_and_overrides():
    config = read_config(["fold_id=3", "model.num_embeddings=1024"], "config_debug")
    training = config["training"]
    assert (training["epochs"], training["early_stopping_patience"], training["precision"]) == (3, 5, "32-true")
    assert config["dataset"]["batch_size"] == 2
    assert (config["fold_id"], config["model"]["num_embeddings"]) == (3, 1024)
    assert config["training"]["learning_rate"] == 1e-4


@pytest.mark.parametrize(
    ("overrides", "name"), [(["model.nope=1"], "config"), (["="], "config"), ([], "none"), (["seed=${nope}"], "config")]
)
def test_configurations_that_are_not_there(overrides, name):
    with pytest.raises(UsageError, match=r"^[^\n]+$"):
        read_config(overrides, name)


def test_a_debug_run(data, tmp_path):
    config = read_config([*data, f"output_dir={tmp_path}/outputs", "fold_id=2"], "config_debug")
    result = train(config)
    folder = tmp_path / "outputs" / "vqvae_debug" / "fold_2"
    assert result["folder"] == str(folder)
    assert result["epochs"] == 3
    assert Path(result["checkpoint"]).parent == folder / "checkpoints"
    assert yaml.safe_load((folder / "config.yaml").read_text()) == config
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert train(config) == result  # it is finished


def test_an_archive_has_its_own_splits_and_only_normal_volumes_train(tmp_path):
    images = np.zeros((3, 32, 32, 32), np.uint8)
    parts = {"train": [0, 1, 0], "val": [1, 1, 0]}
    arrays = {f"{part}_images": images for part in parts} | {
        f"{part}_labels": np.array(labels, np.uint8)[:, None] for part, labels in parts.items()
    }
    np.savez(tmp_path / "a.npz", **arrays)
    train_set, val_set = build_datasets(DatasetSettings(str(tmp_path / "a.npz"), volume_size=32), 1, 42)
    assert (len(train_set), len(val_set)) == (2, 1)
    assert (train_set.augmentation, val_set.augmentation) == (Augmentation(), None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.volume_size=40", "multiple of 16"),
        ("+dataset.size=3", r"unknown key dataset\.size"),
        ("+extra=3", "look at extra"),
        ("experiment=../x", "experiment is"),
        ("fold_id=a", "fold_id is 'a'"),
        ("fold_id=7", "fold_id"),
        ("dataset.folds_file=null", "folds_file is missing"),
    ],
)
def test_values_that_do_not_fit_are_refused_before_anything_is_written(data, tmp_path, override, message):
    with pytest.raises(UsageError, match=message):
        train(read_config([*data, f"output_dir={tmp_path}/outputs", override], "config_debug"))
    assert not (tmp_path / "outputs").exists()


def test_the_command_line(data, tmp_path):
    """Overrides before and behind an option, as they stand in the original's instructions."""
    command = [sys.executable, "-m", "relatent.systems.anomaly.train", "fold_id=1", "--config-name=config_debug"]
    overrides = ["model.num_embeddings=64", "training.epochs=1", *data]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *overrides], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = Path("outputs", "vqvae_debug", "fold_1")
    assert f"folder: {folder}" in done.stdout.splitlines()
    assert yaml.safe_load((tmp_path / folder / "config.yaml").read_text())["model"]["num_embeddings"] == 64
    assert {path.name for path in tmp_path.iterdir()} == {"volumes", "outputs"}  # nothing of Hydra's own


def test_the_command_line_says_what_is_wrong_in_one_line(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", "fold_id=1", "--config-name", "config_debug", *data, "model.dropout=2"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: model: dropout and dead_code_share lie in [0, 1), ema_decay in (0, 1)"
    ]
