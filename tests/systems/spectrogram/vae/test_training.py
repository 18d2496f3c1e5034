"""Training: what it writes, what it keeps, what it never trains on, where it goes on."""

import json
import time
from dataclasses import replace

import pytest
import relatent
import torch
from relatent.engine.errors import RunStoppedError, UsageError
from relatent.systems.spectrogram.data.dataset import SpectrogramDataset
from relatent.systems.spectrogram.training import optimization
from relatent.systems.spectrogram.training.checkpoint import load_checkpoint
from relatent.systems.spectrogram.vae import training
from relatent.systems.spectrogram.vae.evaluation import reconstruction_quality
from relatent.systems.spectrogram.vae.model import load_vae
from relatent.systems.spectrogram.vae.training import NAME, VAETrainer, train_vae
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from vae_spectrograms import write_spectrograms


def quiet(line):
    pass


def trained(settings):
    trainer = VAETrainer(settings, quiet)
    trainer.run()
    return trainer


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def scalars(settings, name):
    events = EventAccumulator(settings.output_dir + "/vae_logs").Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


@pytest.fixture(scope="module")
def run(spectrograms, tmp_path_factory):
    """A finished training of two epochs, the lines that it said and its record."""
    settings = training.VAESettings(
        str(spectrograms), str(tmp_path_factory.mktemp("run") / "out"), resolution=32, num_users=2, batch_size=4, epochs=2,
        block_out_channels=(8, 8), learning_rate=3e-3, lr_warmup_steps=4, device="cpu", log_every=1, fft_weight=0.1,
    )  # fmt: skip
    said: list[str] = []
    return settings, said, train_vae(settings, said.append)


def test_the_record(run):
    settings, said, record = run
    assert json.loads((training.Path(settings.output_dir) / "vae_training.json").read_text()) == json.loads(
        json.dumps(record, allow_nan=False)
    )
    assert (record["resolution"], record["num_users"], record["latent_channels"]) == (32, 2, 4)
    assert record["simulated"] is True
    assert record["pictures"] == {"training": 16, "held_out": 8}
    assert record["steps"] == 8
    assert [line.split(":")[0] for line in said] == ["epoch 0", "epoch 1"]
    assert "dB" in said[0]


def test_the_factor_is_one_over_the_spread_of_this_vaes_latents(run):
    settings, _, record = run
    vae, stored = load_vae(settings.output_dir)
    trainer = VAETrainer(settings, quiet)
    plain = SpectrogramDataset(trainer.training.items, 32)
    with torch.no_grad():
        latents = torch.cat([vae.encode(sample["image"][None]).latent_dist.mean for sample in plain])
    factor = 1.0 / latents.std(correction=0).item()
    assert stored["scaling_factor"] == vae.config.scaling_factor == record["scaling_factor"]
    assert stored["scaling_factor"] == pytest.approx(factor, rel=1e-4)
    assert abs(stored["scaling_factor"] - 0.18215) > 0.01
    assert relatent.load_autoencoder(settings.output_dir + "/vae", device="cpu").scaling.factor == pytest.approx(factor)


def test_the_figures_are_those_of_the_written_model(run):
    settings, _, record = run
    trainer = VAETrainer(settings, quiet)
    vae, _ = load_vae(settings.output_dir)
    found = reconstruction_quality(vae, trainer.held_out, 4)
    assert found.psnr == pytest.approx(record["psnr"], abs=1e-3)
    assert found.ssim == pytest.approx(record["ssim"], abs=1e-4)
    assert equal(vae.state_dict(), trainer.best["model"])


def test_the_rate_is_above_zero_in_the_first_epoch_and_it_learns(run):
    settings, _, _ = run
    rates = scalars(settings, "train/lr")
    assert [step for step, _ in rates] == list(range(8))
    assert all(rate > 0.0 for _, rate in rates)
    assert rates[3][1] == pytest.approx(3e-3)  # within the first epoch
    (_, first), (_, second) = scalars(settings, "held_out/psnr")
    assert second > first


def test_tensorboard_has_terms_and_reconstructions(run):
    settings, _, _ = run
    events = EventAccumulator(settings.output_dir + "/vae_logs").Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) == {
        *(f"train/{name}" for name in ("loss", "mse", "kl", "fft", "lr", "grad_norm")),
        "held_out/psnr",
        "held_out/ssim",
    }
    assert tags["images"] == ["held_out/reconstruction"]
    (first, _) = events.Images("held_out/reconstruction")
    assert (first.width, first.height) == (8 * 34 + 2, 2 * 34 + 2)


def test_the_first_step_changes_the_weights(small_settings):
    trainer = VAETrainer(small_settings(), quiet)
    before = {name: tensor.clone() for name, tensor in trainer.vae.state_dict().items()}
    trainer._train_step(next(trainer._updates()))
    assert not any(
        torch.equal(tensor, before[name]) for name, tensor in trainer.vae.named_parameters() if "conv_in" in name
    )


def test_the_best_model_is_a_copy_that_later_steps_do_not_change(small_settings):
    trainer = VAETrainer(small_settings(), quiet)
    trainer._evaluate()
    kept = {name: tensor.clone() for name, tensor in trainer.best["model"].items()}
    for pictures in trainer._updates():
        trainer._train_step(pictures)
    assert equal(kept, trainer.best["model"])
    assert not equal(kept, trainer.vae.state_dict())


def test_the_best_model_is_written_not_the_last(small_settings):
    settings = small_settings(epochs=1)
    trainer = VAETrainer(settings, quiet)
    best = {name: torch.full_like(tensor, 0.01) for name, tensor in trainer.vae.state_dict().items()}
    trainer.best = {"psnr": 99.0, "ssim": 1.0, "step": 0, "model": best}
    trainer.run()
    assert equal(load_vae(settings.output_dir)[0].state_dict(), best)
    trainer = VAETrainer(settings, quiet)  # and the checkpoint has it
    assert trainer.best["psnr"] == 99.0
    assert equal(trainer.best["model"], best)


def test_held_out_recordings_are_never_trained_on_whatever_the_seed(small_settings, run):
    one, other = (VAETrainer(small_settings(seed=seed), quiet) for seed in (0, 1))
    parts = [{(item.user, item.recording) for item in part.items} for part in (one.training, one.held_out)]
    assert not parts[0] & parts[1]
    assert {user for user, _ in parts[0]} == {user for user, _ in parts[1]} == {0, 1}
    assert [item.path for item in one.held_out.items] == [item.path for item in other.held_out.items]
    assert one.held_out.augmentation is None
    first, second = (next(trainer._updates())[0] for trainer in (one, other))
    assert not torch.equal(first, second)


def test_parts_of_a_batch_add_up_to_the_whole(small_settings):
    whole, parts = (
        VAETrainer(small_settings(batch_size=size, gradient_accumulation_steps=8 // size), quiet) for size in (8, 2)
    )
    pictures = next(whole._updates())[0]
    split = next(parts._updates())
    assert [len(part) for part in split] == [2] * 4
    assert torch.equal(torch.cat(split), pictures)
    one, other = whole._train_step([pictures]), parts._train_step(split)
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)


def test_checkpointing_of_gradients_changes_nothing(small_settings):
    plain, less = (VAETrainer(small_settings(gradient_checkpointing=flag), quiet) for flag in (False, True))
    assert not plain.vae.encoder.gradient_checkpointing
    assert less.vae.encoder.gradient_checkpointing
    pictures = next(plain._updates())
    one, other = plain._train_step(pictures), less._train_step(pictures)
    assert one == pytest.approx(other, rel=1e-5)


def test_mixed_precision(small_settings):
    exact, mixed = (VAETrainer(small_settings(mixed_precision=name), quiet) for name in ("no", "bf16"))
    pictures = next(exact._updates())
    one, other = exact._train_step(pictures), mixed._train_step(pictures)
    assert one["loss"] != other["loss"]
    assert one["loss"] == pytest.approx(other["loss"], rel=2e-2)
    assert all(parameter.dtype == torch.float32 for parameter in mixed.vae.parameters())
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        VAETrainer(small_settings(mixed_precision="fp16"), quiet)


def test_the_running_mean_is_judged_and_kept(small_settings):
    trainer = VAETrainer(small_settings(use_ema=True, epochs=1), quiet)
    for pictures in trainer._updates():
        trainer._train_step(pictures)
    trained = [parameter.clone() for parameter in trainer.vae.parameters()]
    mean = [parameter.clone() for parameter in trainer.optimization.ema.shadow_params]
    assert not torch.equal(trained[0], mean[0])
    trainer._evaluate()
    kept = [trainer.best["model"][name] for name, _ in trainer.vae.named_parameters()]
    assert all(torch.equal(one, other) for one, other in zip(kept, mean, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(trainer.vae.parameters(), trained, strict=True))


@pytest.mark.parametrize("changes", [{}, {"use_ema": True, "gradient_accumulation_steps": 2}])
def test_a_longer_training_is_a_shorter_one_that_went_on(small_settings, changes):
    whole = trained(small_settings("whole", epochs=3, **changes))
    trained(small_settings("parts", epochs=1, **changes))
    time.sleep(1)  # TensorBoard orders a folder's files by their names, which have seconds
    said: list[str] = []
    parts = VAETrainer(small_settings("parts", epochs=3, **changes), said.append)
    assert said == [f"going on at step {whole.step // 3}, epoch 1"]
    record = parts.run()
    assert equal(*(load_checkpoint(training.Path(t.settings.output_dir) / NAME)["model"] for t in (whole, parts)))
    assert record == json.loads((training.Path(whole.settings.output_dir) / "vae_training.json").read_text()) | {
        "settings": record["settings"]
    }
    assert [step for step, _ in scalars(parts.settings, "train/loss")] == list(range(whole.step))


def test_max_steps_ends_within_an_epoch_and_more_of_them_go_on(small_settings):
    assert trained(small_settings(max_steps=3)).step == 3
    assert trained(small_settings(max_steps=6)).step == 6
    assert trained(small_settings("whole")).step == 8
    trained(small_settings())
    one, other = (load_checkpoint(training.Path(small_settings(out).output_dir) / NAME) for out in ("out", "whole"))
    assert equal(one["model"], other["model"])


def test_another_training_does_not_go_on_in_the_same_folder(small_settings, tmp_path):
    settings = small_settings(epochs=1)
    trained(settings)
    for changes, name in (
        ({"learning_rate": 1e-4}, "learning_rate"),
        ({"seed": 1}, "seed"),
        ({"use_ema": True}, "ema"),
    ):
        with pytest.raises(UsageError, match=f"of other settings .*{name}"):
            VAETrainer(replace(settings, **changes), quiet)
    others = write_spectrograms(tmp_path / "others", windows=5)
    with pytest.raises(UsageError, match="of other pictures"):
        VAETrainer(replace(settings, data_dir=str(others)), quiet)
    moved = (tmp_path / "others").rename(tmp_path / "moved")
    same = write_spectrograms(moved / "same")
    VAETrainer(replace(settings, data_dir=str(same), gradient_checkpointing=True, save_every=7), quiet)


def test_a_damaged_checkpoint_is_one_line(small_settings):
    settings = small_settings(epochs=1)
    trained(settings)
    path = training.Path(settings.output_dir) / NAME
    for content in (path.read_bytes()[:-50], b"no checkpoint"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="cannot be read as a checkpoint") as caught:
            VAETrainer(settings, quiet)
        assert "\n" not in str(caught.value)
    torch.save({"model": {}}, path)
    with pytest.raises(UsageError, match="is no checkpoint"):
        VAETrainer(settings, quiet)


def test_a_gradient_that_is_not_finite_updates_nothing(small_settings, monkeypatch):
    monkeypatch.setattr(optimization, "MOST_SKIPPED", 2)
    trainer = VAETrainer(small_settings(use_ema=True), quiet)
    before = {name: tensor.clone() for name, tensor in trainer.vae.state_dict().items()}
    nan = [torch.full((4, 3, 32, 32), float("nan"))]
    trainer._train_step(nan)
    assert trainer.optimization.skipped == 1
    assert equal(before, trainer.vae.state_dict())
    trainer._train_step(next(trainer._updates()))
    trainer._train_step(nan)
    with pytest.raises(RunStoppedError, match="smaller learning_rate"):
        trainer._train_step(nan)


def test_too_few_pictures_are_one_line(small_settings):
    with pytest.raises(UsageError, match="16 pictures to train on make no update of 8 × 4"):
        VAETrainer(small_settings(batch_size=8, gradient_accumulation_steps=4), quiet)
