"""Settings, recipes, and the learning rate."""

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.diffusion.network import build_network
from relatent.systems.spectrogram.diffusion.settings import RECIPES, DiffusionSettings, recipe_settings
from relatent.systems.spectrogram.training.schedule import learning_rate
from tiny_diffusion import tiny_settings


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_rate_is_never_0(recipe):
    settings = recipe_settings(recipe)
    rates = [
        learning_rate(settings.learning_rate, settings.lr_scheduler, settings.lr_warmup_steps, step, settings.max_steps)
        for step in range(settings.max_steps)
    ]
    assert rates[0] == pytest.approx(settings.learning_rate / settings.lr_warmup_steps)
    assert min(rates) > 0
    assert max(rates) == pytest.approx(settings.learning_rate, rel=0.01)


def test_the_recipes():
    standard = recipe_settings("standard")
    assert (standard.learning_rate, standard.weight_decay, standard.condition_dropout) == (1e-4, 1e-2, 0.1)
    assert recipe_settings("memory").update_size == standard.update_size
    assert recipe_settings("quality").use_ema
    assert recipe_settings("quality").max_steps > standard.max_steps
    assert recipe_settings("quality", use_ema=False, max_steps=7) == recipe_settings(
        "standard", max_steps=7, lr_scheduler="cosine"
    )
    with pytest.raises(UsageError, match="standard, memory, quality, small, found 'large'"):
        recipe_settings("large")


def test_the_networks():
    with torch.device("meta"):
        network = build_network(DiffusionSettings(), (4, 32, 32))
    config = network.unet.config
    assert config.block_out_channels == (128, 256, 512, 512)
    assert config.cross_attention_dim == 512
    assert network.condition.embedding.weight.shape == (31, 512)
    small = build_network(recipe_settings("small"), (4, 16, 16))
    assert 0.7e6 < sum(parameter.numel() for parameter in small.parameters()) < 0.9e6
    with pytest.raises(UsageError, match="6×6 cannot be halved 3 times"):
        build_network(DiffusionSettings(), (4, 6, 6))


def test_the_start_depends_on_the_seed_alone():
    torch.manual_seed(5)
    one = build_network(tiny_settings(), (2, 4, 4)).state_dict()
    other = build_network(tiny_settings(), (2, 4, 4)).state_dict()
    third = build_network(tiny_settings(seed=1), (2, 4, 4)).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not all(torch.equal(one[name], third[name]) for name in one)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_users": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"condition_dropout": 1.5},
        {"condition_scale": float("nan")},
        {"mixed_precision": "fp32"},
        {"lr_scheduler": "linear"},
        {"attention": (True, True)},
        {"attention": (False,)},
        {"heads": 3},
        {"eval_every": 0},
    ],
)
def test_values_that_make_no_training(changes):
    with pytest.raises(UsageError, match=next(iter(changes)) if "heads" not in changes else "block_out_channels"):
        tiny_settings(**changes)


def test_what_a_checkpoint_goes_on_with():
    settings = tiny_settings()
    free = {"device": "cuda", "max_steps": 99, "save_every": 7, "condition_scale": 3.0, "gradient_checkpointing": True}
    assert tiny_settings(**free).decisive() == settings.decisive()
    for name, value in {"learning_rate": 1e-3, "use_ema": True, "batch_size": 4, "seed": 1}.items():
        assert tiny_settings(**{name: value}).decisive() != settings.decisive(), name
    cosine = tiny_settings(lr_scheduler="cosine")
    assert (
        tiny_settings(lr_scheduler="cosine", max_steps=99).decisive() != cosine.decisive()
    )  # the rate follows the length
