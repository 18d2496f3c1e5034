"""The training: what it learns, what it writes, and what it refuses."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from PIL import Image
from relatent.engine.errors import RunStoppedError, UsageError
from relatent.systems.spectrogram.diffusion.latent_set import LatentSet
from relatent.systems.spectrogram.diffusion.model_folder import BEST, load_model
from relatent.systems.spectrogram.diffusion.sampler import sample_latents
from relatent.systems.spectrogram.diffusion.trainer import NAME, DiffusionTrainer
from relatent.systems.spectrogram.training.checkpoint import load_checkpoint
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_diffusion import DISTANCE, tiny_settings, toy_latents


def trainer(folder, training=None, validation=None, **given) -> DiffusionTrainer:
    return DiffusionTrainer(
        tiny_settings(**given),
        training or toy_latents(),
        validation or toy_latents(seed=1),
        folder,
        progress=lambda line: None,
    )


def weights(one: DiffusionTrainer) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in one.network.state_dict().values()]


def largest_difference(one, other) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


@pytest.mark.slow
def test_it_learns_what_tells_users_apart(tmp_path):
    trained = trainer(
        tmp_path, max_steps=120, batch_size=32, block_out_channels=(32,), learning_rate=1e-2, eval_every=120
    )
    before = trained._validate()
    record = trained.run()
    assert record["validation_loss"] < 0.5 * before
    users = torch.arange(64) % 2

    def distances(scale):
        samples = sample_latents(trained.network, trained.scaling, users, range(64), scale, 10)
        means = [samples[users == user].mean((0, 2, 3)) for user in (0, 1)]
        return (means[1] - means[0]).tolist()

    plain, guided = distances(1.0), distances(3.0)
    assert 0.5 * DISTANCE < plain[0] < 1.3 * DISTANCE
    assert abs(plain[1]) < 0.25 * DISTANCE  # the second channel tells nothing
    assert guided[0] > plain[0] + 0.2 * DISTANCE


def test_accumulation_is_the_same_update(tmp_path):
    whole = trainer(tmp_path / "a", batch_size=8)
    parts = trainer(tmp_path / "b", batch_size=2, gradient_accumulation_steps=4)
    for one in (whole, parts):
        one._train_step()
    gradients = [[parameter.grad for parameter in one.parameters] for one in (whole, parts)]
    assert largest_difference(*gradients) < 1e-5
    assert max(float(gradient.abs().max()) for gradient in gradients[0]) > 1e-2


@pytest.mark.parametrize("changes", [{"gradient_checkpointing": True}, {"mixed_precision": "bf16"}])
def test_checkpointing_is_exact_and_bf16_is_close(tmp_path, changes):
    plain, other = trainer(tmp_path / "a"), trainer(tmp_path / "b", **changes)
    assert other.network.unet.is_gradient_checkpointing == bool(changes.get("gradient_checkpointing"))
    for one in (plain, other):
        one._train_step()
    gradients = [torch.cat([parameter.grad.flatten() for parameter in one.parameters]) for one in (plain, other)]
    error = float((gradients[0] - gradients[1]).norm() / gradients[0].norm())
    assert error < (1e-6 if "gradient_checkpointing" in changes else 0.1)
    assert (error > 0) == ("mixed_precision" in changes)
    assert all(parameter.dtype == torch.float32 for parameter in other.parameters)


def test_the_first_step_changes_the_weights(tmp_path):
    """The original's learning rate was 0 in its first epoch."""
    one = trainer(tmp_path, lr_warmup_steps=500)
    before = weights(one)
    assert one._train_step()["lr"] > 0
    assert largest_difference(before, weights(one)) > 0


def test_the_condition_dropped_everywhere_trains_no_user(tmp_path):
    one = trainer(tmp_path, condition_dropout=1.0)
    one._train_step()
    assert not one.network.condition.embedding.weight.grad.any()
    assert one.network.condition.null_token.grad.any()
    two = trainer(tmp_path / "b", condition_dropout=0.0)
    two._train_step()
    assert two.network.condition.embedding.weight.grad.abs().sum(1).gt(0).all()
    assert not two.network.condition.null_token.grad.any()


def test_what_it_writes(tmp_path):
    record = trainer(tmp_path, use_ema=True).run()
    assert record["scaling"]["scaling_factor"] == pytest.approx(1 / toy_latents().latents.std().item(), rel=1e-3)
    assert (record["steps"], record["simulated"], record["vae"]) == (6, None, None)
    for number in (3, 6):
        grid = np.asarray(Image.open(tmp_path / "samples" / f"step_{number:07d}.png"))
        assert grid.shape == (2 * 6 + 2, 4 * 6 + 2, 3)  # two users, four samples, borders of two pixels
    log = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert [event.step for event in log.Scalars("train/loss")] == list(range(1, 7))
    assert [event.step for event in log.Scalars("held_out/loss")] == [3, 6]
    assert log.Scalars("held_out/loss")[-1].value == pytest.approx(record["validation_loss"])
    assert log.Images("samples")
    names = {"best", "checkpoint.pt", "condition.safetensors", "ema_unet", "logs", "model.json", "samples", "unet"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_the_model_is_read_back(tmp_path):
    one = trainer(tmp_path, use_ema=True, ema_decay=0.5)
    one.run()
    raw, averaged = load_model(tmp_path, ema=False), load_model(tmp_path)
    assert largest_difference(weights(one), raw.network.state_dict().values()) == 0
    assert largest_difference(weights(one), averaged.network.state_dict().values()) > 0
    with one.optimization.averaged():
        assert largest_difference(weights(one), averaged.network.state_dict().values()) == 0
    assert raw.scaling == one.scaling
    assert raw.num_users == 2


def test_the_best_model_is_a_copy(tmp_path):
    """The original kept a reference, so that its best model was its last."""
    one = trainer(tmp_path, eval_every=100, max_steps=3)
    one.run()
    best, loss = weights(one), one.validation_loss
    going_on = trainer(tmp_path, eval_every=1, max_steps=6)
    going_on.validate = going_on._validate
    going_on._validate = lambda: loss + 1.0  # all that comes is worse
    going_on.run()
    assert largest_difference(best, load_model(tmp_path / BEST).network.state_dict().values()) == 0
    assert largest_difference(best, weights(going_on)) > 0
    assert going_on._record()["best"] == {"validation_loss": loss, "step": 3}
    going_on.network.load_state_dict(load_model(tmp_path / BEST).network.state_dict())
    assert going_on.validate() == loss


def test_validation_loss_compares_between_trainings(tmp_path):
    """The same weights have the same loss, whatever the training's seed, batch and step."""
    one, other = trainer(tmp_path / "a"), trainer(tmp_path / "b", seed=7, batch_size=16)
    other.step = 3
    other.network.load_state_dict(deepcopy(one.network.state_dict()))
    assert other._validate() == pytest.approx(one._validate(), rel=1e-5)
    assert one._validate() == one._validate()


def test_it_goes_on_to_the_same_weights(tmp_path):
    whole = trainer(tmp_path / "whole", use_ema=True)
    whole.run()
    trainer(tmp_path / "parts", use_ema=True, max_steps=2).run()
    trainer(tmp_path / "parts", use_ema=True, max_steps=5).run()
    parts = trainer(tmp_path / "parts", use_ema=True)
    assert parts.step == 5
    parts.run()
    assert largest_difference(weights(whole), weights(parts)) == 0
    one, other = (load_checkpoint(tmp_path / name / NAME) for name in ("whole", "parts"))
    assert all(map(torch.equal, one["ema"]["shadow_params"], other["ema"]["shadow_params"]))


def test_a_checkpoint_of_another_training(tmp_path):
    trainer(tmp_path).run()
    with pytest.raises(UsageError, match=r"other settings \(learning_rate\)"):
        trainer(tmp_path, learning_rate=1e-3)
    with pytest.raises(UsageError, match="of other latents"):
        trainer(tmp_path, training=toy_latents(seed=3))
    (tmp_path / NAME).write_bytes(b"not a checkpoint")
    with pytest.raises(UsageError, match="cannot be read as a checkpoint"):
        trainer(tmp_path)


def test_a_user_without_latents_is_refused(tmp_path):
    """The original split by user, and its validation users stayed untrained."""
    latents = toy_latents(users=4)
    by_user = [latents.select(torch.nonzero(where)[:, 0]) for where in (latents.users < 3, latents.users >= 3)]
    with pytest.raises(UsageError, match=r"1 of 4 users have no latent to train on, such as user 3 \(ID_4\)"):
        trainer(tmp_path, *by_user, num_users=4)
    with pytest.raises(UsageError, match="none of 3 users"):
        trainer(tmp_path, latents, latents, num_users=3)
    training, validation = latents.split()
    trainer(tmp_path, training, validation, num_users=4)


def test_what_cannot_be_trained(tmp_path):
    with pytest.raises(UsageError, match="one shape"):
        trainer(tmp_path, validation=toy_latents(shape=(2, 8, 8)))
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        trainer(tmp_path, mixed_precision="fp16")


def test_a_gradient_that_is_not_finite_changes_nothing(tmp_path, monkeypatch):
    one = trainer(tmp_path, max_steps=30, eval_every=100, save_every=100)
    loss = one._loss
    monkeypatch.setattr(one, "_loss", lambda *values: loss(*values) * float("nan"))
    before = weights(one)
    one._train_step()
    assert one.optimization.skipped == 1
    assert largest_difference(before, weights(one)) == 0
    with pytest.raises(RunStoppedError, match="20 updates in a row"):
        one.run()
    with pytest.raises(RunStoppedError, match="validation loss is not finite"):
        one._evaluate(None)


def test_one_user_and_pictures_of_no_recordings(tmp_path):
    """As photographs are: nobody to tell apart."""
    latents = LatentSet(torch.randn(10, 2, 4, 4), torch.zeros(10, dtype=torch.int64), tuple(map(str, range(10))))
    training, validation = latents.split()
    assert trainer(tmp_path, training, validation, num_users=1, max_steps=1).run()["latents"] == {
        "training": 8,
        "held_out": 2,
    }
