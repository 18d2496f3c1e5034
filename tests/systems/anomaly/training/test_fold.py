"""A fold's folder, its checkpoints, stopping early, going on after a stop."""

import importlib.util
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.engine.runtime import atomic
from relatent.systems.anomaly.training import checkpoint_files
from relatent.systems.anomaly.training.lightning_module import VQVAEModule


def test_folders_and_names_of_checkpoints(train, tmp_path):
    trainer, _ = train(epochs=5)
    folder = tmp_path / "out" / "exp" / "fold_1" / "checkpoints"
    names = sorted(path.name for path in folder.iterdir())
    assert names[0] == "last.ckpt"
    assert len(names) == 4  # and the best three
    assert all(re.fullmatch(r"vqvae-\d+-\d+\.\d{4}\.ckpt", name) for name in names[1:])
    losses = [float(name.split("-")[2].removesuffix(".ckpt")) for name in names[1:]]
    assert float(trainer.checkpoint_callback.best_model_score) == pytest.approx(min(losses), abs=1e-4)


@pytest.mark.parametrize("scheduler", ["cosine", "plateau"])
def test_an_interrupted_training_goes_on_to_the_same_weights(train, tmp_path, monkeypatch, scheduler):
    _, whole = train(epochs=4, scheduler=scheduler)

    def stop(self, *_):
        if self.current_epoch == 2:
            raise KeyError("stopped")
        return before(self, *_)

    before = VQVAEModule.training_step
    with monkeypatch.context() as patch:
        patch.setattr(VQVAEModule, "training_step", stop)
        with pytest.raises(KeyError, match="stopped"):
            train(epochs=4, scheduler=scheduler, folder="cut")
    torch.manual_seed(5)
    trainer, again = train(epochs=4, scheduler=scheduler, folder="cut")
    assert trainer.current_epoch == 4
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    cut, out = ({path.name for path in (tmp_path / each).rglob("*.ckpt")} for each in ("cut", "out"))
    assert cut == out


def test_it_stops_early_where_the_validation_gets_no_better(train):
    trainer, _ = train(epochs=50, learning_rate=0.0, weight_decay=0.0, early_stopping_patience=1)
    assert trainer.current_epoch < 50


def test_the_last_checkpoint_is_of_the_last_epoch_though_it_is_none_of_the_best(train, tmp_path):
    trainer, _ = train(epochs=5, learning_rate=0.0, weight_decay=0.0, early_stopping_patience=50, save_top_k=1)
    checkpoint = torch.load(tmp_path / "out" / "exp" / "fold_1" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 4
    assert Path(trainer.checkpoint_callback.best_model_path).name != "last.ckpt"


def test_what_stopped_early_is_finished_unless_it_is_given_more_patience(train):
    still = dict(epochs=50, learning_rate=0.0, weight_decay=0.0)
    first, _ = train(early_stopping_patience=2, **still)
    again, _ = train(early_stopping_patience=2, **still)
    assert again.global_step == first.global_step > 0
    assert again.current_epoch == first.current_epoch
    assert again.checkpoint_callback.best_model_path == first.checkpoint_callback.best_model_path
    more, _ = train(early_stopping_patience=4, **still)
    assert more.global_step > again.global_step


@pytest.mark.parametrize("moment", ["while it is written", "before it is renamed"])
def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(train, tmp_path, moment):
    folder = tmp_path / "cut" / "exp" / "fold_1" / "checkpoints"
    train(epochs=1, folder="cut")
    before = (folder / "last.ckpt").read_bytes()

    def strike(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    if (child := os.fork()) == 0:
        if moment == "while it is written":
            checkpoint_files.torch = SimpleNamespace(save=lambda _, path: (path.write_bytes(before[:1000]), strike()))
        else:
            atomic.os = SimpleNamespace(**{**vars(os), "replace": strike})
        checkpoint_files.AtomicCheckpointIO().save_checkpoint({"epoch": 1}, folder / "last.ckpt")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (folder / "last.ckpt").read_bytes() == before
    assert len(list(folder.glob(".*.partial-*"))) == 1
    train(epochs=3, folder="cut")
    assert list(folder.glob(".*")) == []


def test_another_model_or_a_damaged_checkpoint_is_refused(train, tmp_path):
    _, module = train(epochs=1)
    with pytest.raises(UsageError, match="training of another model"):
        train(replace(module.model.config, num_embeddings=32), epochs=1)
    last = tmp_path / "out" / "exp" / "fold_1" / "checkpoints" / "last.ckpt"
    for damaged in (b"", last.read_bytes()[:1000], b"x" * 100):
        last.write_bytes(damaged)
        with pytest.raises(UsageError, match="cannot be read as a checkpoint"):
            train(epochs=1)


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_wandb_is_missing(train):
    with pytest.raises(UsageError, match="needs the package wandb"):
        train(logger="wandb")
