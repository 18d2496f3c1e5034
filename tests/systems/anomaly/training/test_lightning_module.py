"""What a training logs, what its optimiser holds, how its learning rate falls."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.model.checkpoint import load_model
from relatent.systems.anomaly.model.configuration import VQVAEConfig
from relatent.systems.anomaly.training.lightning_module import VQVAEModule
from relatent.systems.anomaly.training.settings import TrainingSettings
from relatent.systems.anomaly.training.slice_images import log_slices, slice_images
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

NAMES = {
    f"{part}/{name}" for part in ("train", "val") for name in ("recon_loss", "vq_loss", "total_loss", "perplexity")
}


def test_logged_names_and_pictures(train):
    trainer, _ = train()
    log = EventAccumulator(trainer.logger.log_dir).Reload()
    assert set(log.Tags()["scalars"]) - {"epoch"} == NAMES | {"train/codebook_usage", "train/learning_rate"}
    pictures = {f"val/{part}_slice_epoch{epoch}" for part in ("original", "recon", "error") for epoch in (0, 2)}
    assert set(log.Tags()["images"]) == pictures
    values = {name: [each.value for each in log.Scalars(name)] for name in log.Tags()["scalars"] if name != "epoch"}
    assert all(len(each) == 3 for each in values.values())
    for part in ("train", "val"):
        for recon, vq, total in zip(*(values[f"{part}/{name}_loss"] for name in ("recon", "vq", "total")), strict=True):
            assert total == pytest.approx(recon + vq, rel=1e-5)
    assert 0 < values["train/codebook_usage"][0] <= 1
    cosine = [1e-6 + (1e-3 - 1e-6) * share for share in (1, 0.75, 0.25)]
    assert values["train/learning_rate"] == pytest.approx(cosine)


@pytest.mark.parametrize(("optimizer", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
@pytest.mark.parametrize("use_ema", [False, True])
def test_the_optimiser_holds_the_codebook_only_without_ema(optimizer, kind, use_ema):
    """In the original it was in the optimiser with EMA too."""
    module = VQVAEModule(
        VQVAEConfig(hidden_channels=(4, 4), embedding_dim=4, use_ema=use_ema), TrainingSettings(optimizer=optimizer)
    )
    made = module.configure_optimizers()["optimizer"]
    held = [each for group in made.param_groups for each in group["params"]]
    assert type(made) is kind
    assert any(each is module.model.quantiser.codebook for each in held) != use_ema
    assert len(held) == len(list(module.parameters())) - use_ema
    assert (made.defaults["lr"], made.defaults["weight_decay"]) == (1e-4, 1e-4)


def test_weight_decay_leaves_the_codebook_of_ema_alone(train):
    _, module = train(learning_rate=0.0, weight_decay=1.0, epochs=1)
    quantiser = module.model.quantiser
    assert torch.equal(quantiser.codebook, quantiser.mean_sum / quantiser.share[:, None])


def test_plateau_watches_the_validation(train):
    _, module = train(scheduler="plateau", epochs=1)
    made = module.configure_optimizers()["lr_scheduler"]
    assert isinstance(made["scheduler"], torch.optim.lr_scheduler.ReduceLROnPlateau)
    assert made["monitor"] == "val/total_loss"


def test_l1_and_l2():
    module = VQVAEModule(VQVAEConfig(hidden_channels=(4, 4), embedding_dim=4), TrainingSettings(recon_loss="l2")).eval()
    module.log_dict = lambda values, **_: logged.update(values)
    logged: dict[str, torch.Tensor] = {}
    x = torch.rand(2, 1, 8, 8, 8)
    module._step([x], "val")
    expected = (x - module(x).reconstruction).square().mean()
    torch.testing.assert_close(logged["val/recon_loss"], expected.detach())
    module.settings = TrainingSettings(recon_loss="l1")
    module._step(x, "val")
    torch.testing.assert_close(logged["val/recon_loss"], module.model.get_reconstruction_error(x, "mean").mean())


def test_slices_are_the_middle_ones():
    x = torch.arange(4.0).reshape(4, 1, 1).expand(4, 2, 3) / 4
    images = slice_images(x, torch.zeros_like(x))
    assert torch.equal(images["original"], torch.full((2, 3), 0.5))
    assert torch.equal(images["error"], images["original"])
    assert not images["recon"].any()


def test_pictures_go_to_any_logger_that_takes_them():
    class Pictures:
        seen: ClassVar[dict] = {}

        def log_image(self, key, images):
            self.seen[key] = images[0].shape

    log_slices([Pictures(), object()], torch.rand(4, 2, 3), torch.rand(4, 2, 3), 5)
    assert Pictures.seen == {f"val/{part}_slice_epoch5": (2, 3) for part in ("original", "recon", "error")}


def test_a_checkpoint_needs_nothing_else(train):
    trainer, module = train(epochs=1)
    again = VQVAEModule.load_from_checkpoint(trainer.checkpoint_callback.best_model_path, weights_only=True)
    assert again.model.config == module.model.config
    assert again.settings == module.settings
    x = torch.rand(1, 1, 32, 32, 32)
    assert torch.equal(load_model(Path(trainer.checkpoint_callback.best_model_path))(x)[0], module.eval()(x)[0])
    assert torch.equal(again.eval()(x).reconstruction, module.eval()(x).reconstruction)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, r"unknown key training\.epoch; known are .*epochs"),
        ({"recon_loss": "mse"}, "give l1 or l2"),
        ({"optimizer": "sgd"}, "give adam or adamw"),
        ({"scheduler": "step"}, "give cosine or plateau"),
        ({"epochs": 0}, "whole number from 1 on"),
        ({"learning_rate": float("nan")}, "finite number"),
        ({"learning_rate": "fast"}, "finite number"),
    ],
)
def test_settings_that_make_no_training(values, message):
    with pytest.raises(UsageError, match=message):
        TrainingSettings.of(values)
