"""Training: what is logged when, where it goes on, what it refuses."""

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from relatent.engine.errors import UsageError
from relatent.systems.codec.bitstream.model_folder import load_model
from relatent.systems.codec.errors import CodecModelError
from relatent.systems.codec.training.checkpoint import NAME, load_checkpoint
from relatent.systems.codec.training.run_log import LINES, read_log
from relatent.systems.codec.training.settings import TrainingSettings
from relatent.systems.codec.training.trainer import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def settings(pictures: Path, out: Path, **changes) -> TrainingSettings:
    defaults = dict(epochs=2, batch_size=3, patch_size=64, learning_rate=1e-3)
    return TrainingSettings(str(pictures), str(out), **{**defaults, **changes})


def trained(given: TrainingSettings, **options) -> tuple[Trainer, list[str]]:
    said: list[str] = []
    trainer = Trainer(given, log_every=1, progress=said.append, **options)
    trainer.run()
    return trainer, said


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [*trainer.model.state_dict().values(), *trainer.criterion.state_dict().values()]


def equal(a: Trainer, b: Trainer) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def test_both_phases_are_logged_under_the_published_names(pictures, tmp_path):
    given = settings(
        pictures, tmp_path / "out", epochs=3, spectral_reg=True, truncation_epochs=2, phase2_reg=True,
        test_dataset=str(pictures), log_dir=str(tmp_path / "logs"),
    )  # fmt: skip
    trainer, said = trained(given)
    log = read_log(tmp_path / "logs" / "small_lmbda0.013" / LINES)
    training = [line for line in log if "train/loss" in line]
    assert set(training[0]) == {
        "step", "epoch", *(f"train/{n}" for n in ("loss", "bpp_loss", "mse_loss", "psnr", "y_bpp", "z_bpp", "lr")),
        "spectral/tau", "spectral/phase", "spectral/inter_scale_reg",
    }  # fmt: skip
    assert [line["spectral/phase"] for line in training] == ["phase1_intra"] * 4 + ["baseline"] * 2
    assert [line["spectral/inter_scale_reg"] < 0.0 for line in training] == [False] * 4 + [True] * 2
    assert [line["spectral/tau"] for line in training] == [0.05] * 2 + [0.525] * 2 + [1.0] * 2
    tests = [line for line in log if "test/loss" in line]
    assert [line["epoch"] for line in tests] == [0, 1, 2]
    assert set(tests[0]) - {"step", "epoch"} == {
        f"test/{n}" for n in ("loss", "bpp_loss", "mse_loss", "psnr", "y_bpp", "z_bpp")
    }
    events = EventAccumulator(str(tmp_path / "logs" / "small_lmbda0.013")).Reload()
    assert [scalar.step for scalar in events.Scalars("train/psnr")] == list(range(6))
    assert "spectral/phase/text_summary" in events.Tags()["tensors"]
    assert any("bpp" in line and "dB" in line for line in said)
    assert any(p.grad is not None for p in trainer.criterion.parameters())


def test_the_models_of_a_training_are_folders_of_the_codec(pictures, tmp_path):
    given = settings(pictures, tmp_path / "out", test_dataset=str(pictures), lmbda=0.025)
    trainer, _ = trained(given)
    codec = load_model(given.folder / "model")
    assert codec.lmbda == 0.025
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(codec.model.state_dict()[name], tensor), name
    assert load_model(given.folder / "best").lmbda == 0.025


@pytest.mark.parametrize("phase2", [False, True])
def test_a_longer_training_is_a_shorter_one_that_went_on(pictures, tmp_path, phase2):
    common = dict(phase2_reg=phase2, phase2_start=1)
    whole, _ = trained(settings(pictures, tmp_path / "whole", epochs=4, **common))
    trained(settings(pictures, tmp_path / "parts", epochs=2, **common))
    parts, said = trained(settings(pictures, tmp_path / "parts", epochs=4, **common))
    assert said[0] == "going on at step 4, epoch 2"
    assert equal(whole, parts)
    assert [line["step"] for line in read_log(parts.settings.log_folder / LINES)] == list(range(8))


def test_other_settings_do_not_go_on_in_the_same_folder(pictures, tmp_path):
    given = settings(pictures, tmp_path / "out", epochs=1)
    trained(given)
    with pytest.raises(UsageError, match="learning_rate"):
        Trainer(replace(given, learning_rate=1e-4))
    with pytest.raises(UsageError, match="seed"):
        Trainer(replace(given, seed=1))


def test_phase_1_then_both(pictures, tmp_path):
    first, _ = trained(settings(pictures, tmp_path / "first", spectral_reg=True, truncation_epochs=2))
    checkpoint = str(first.settings.folder / NAME)
    both = settings(
        pictures, tmp_path / "both", epochs=3, spectral_reg=True, truncation_epochs=2, phase2_reg=True,
        checkpoint=checkpoint,
    )  # fmt: skip
    trainer = Trainer(both, log_every=1, progress=lambda line: None)
    assert trainer.epoch == 2
    assert all(torch.equal(a, b) for a, b in zip(trainer.model.parameters(), first.model.parameters(), strict=True))
    trainer.run()
    last, _ = read_log(both.log_folder / LINES)
    assert last["epoch"] == 2
    assert last["spectral/inter_scale_reg"] < 0.0
    back = settings(pictures, tmp_path / "back", epochs=4, checkpoint=str(both.folder / NAME))
    assert trained(back)[0].step == 8  # the alignments' state is left out


def test_another_lambda_starts_anew_from_the_weights(pictures, tmp_path):
    first, _ = trained(settings(pictures, tmp_path / "out"))
    other = settings(pictures, tmp_path / "out", lmbda=0.0018, checkpoint=str(first.settings.folder / NAME))
    trainer = Trainer(other, progress=lambda line: None)
    assert (trainer.epoch, trainer.step) == (0, 0)
    assert torch.equal(next(trainer.model.parameters()), next(first.model.parameters()))


def test_a_batch_without_a_finite_gradient_is_skipped(pictures, tmp_path):
    trainer = Trainer(settings(pictures, tmp_path / "out", epochs=1), progress=lambda line: None)
    before = [p.clone() for p in trainer.model.parameters()]
    trainer.criterion.lmbda = float("nan")
    assert trainer._train_step(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)) is None
    assert trainer.skipped == 1
    assert all(torch.equal(a, b) for a, b in zip(trainer.model.parameters(), before, strict=True))


def test_what_cannot_be_trained_is_said_in_one_line(pictures, tmp_path, caplog):
    with pytest.raises(UsageError, match="6 pictures make no batch of 7"):
        Trainer(settings(pictures, tmp_path / "out", batch_size=7))
    with pytest.raises(UsageError, match="smaller --patch-size"):
        Trainer(settings(pictures, tmp_path / "out", patch_size=128))
    with pytest.raises(UsageError, match="model_name"):
        Trainer(settings(pictures, tmp_path / "out", model_name="medium"))
    with pytest.raises(UsageError, match="multiple of 64"):
        settings(pictures, tmp_path / "out", patch_size=100)
    Image.new("RGB", (32, 32)).save(pictures / "little.png")
    with caplog.at_level(logging.WARNING):
        Trainer(settings(pictures, tmp_path / "out"))
    assert "1 of 7 pictures are smaller than 64×64" in caplog.text
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"PK\x03\x04 no checkpoint")
    with pytest.raises(CodecModelError, match=r"damaged\.pth cannot be read") as caught:
        load_checkpoint(damaged, "cpu")
    assert "\n" not in str(caught.value)


def test_an_unfinished_line_of_a_log_is_left_out(tmp_path):
    path = tmp_path / LINES
    path.write_text(json.dumps({"step": 0}) + '\n{"step": 1', encoding="utf-8")
    assert read_log(path) == [{"step": 0}]


def test_weights_and_biases_is_asked_for_by_name_where_it_is_missing(pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    trainer = Trainer(settings(pictures, tmp_path / "out"), wandb=True, progress=lambda line: None)
    with pytest.raises(UsageError, match="pip install wandb"):
        trainer.run()
    assert trainer.step == 0
