"""A fold's folder, its checkpoints, stopping early, going on after a stop."""

import importlib.util
import re
from dataclasses import replace

import pytest
import torch
from relatent.engine.errors import UsageError
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
