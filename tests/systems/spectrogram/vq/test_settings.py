"""The settings of both trainings, and their recipes."""

import json
from dataclasses import asdict

import pytest
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.vq.settings import (
    RECIPES,
    TransformerSettings,
    VQVAESettings,
    recipe_settings,
)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("side", [64, 128])
def test_recipes_make_short_sequences(recipe, side):
    vqvae, transformer = recipe_settings(recipe, {"resolution": side}, {"num_users": 3})
    assert transformer.num_users == 3
    assert (side // vqvae.downscale_factor) ** 2 <= 256 * (side // 64) ** 2
    assert VQVAESettings(**json.loads(json.dumps(asdict(vqvae)))) == vqvae


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (VQVAESettings, {"block_out_channels": (8, 8, 8, 8), "resolution": 100}),
        (VQVAESettings, {"block_out_channels": ()}),
        (VQVAESettings, {"ema_decay": 1.0}),
        (VQVAESettings, {"num_embeddings": 0}),
        (TransformerSettings, {"width": 100, "heads": 3}),
        (TransformerSettings, {"dropout": 1.0}),
        (TransformerSettings, {"condition_dropout": -0.1}),
        (TransformerSettings, {"learning_rate": 0.0}),
        (TransformerSettings, {"lr_scheduler": "linear"}),
        (TransformerSettings, {"seed": -1}),
    ],
)
def test_values_that_make_no_training_are_refused(kind, given):
    with pytest.raises(UsageError, match=next(iter(given))):
        kind(**given)


def test_an_unknown_recipe_is_refused():
    with pytest.raises(UsageError, match="standard, small"):
        recipe_settings("large")


def test_what_a_checkpoint_must_have_alike():
    settings = VQVAESettings()
    assert settings.decisive() == VQVAESettings(device="cpu", save_every=7, eval_every=9).decisive()
    assert settings.decisive() != VQVAESettings(max_steps=7).decisive()
