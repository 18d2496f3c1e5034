"""The defaults are the published ones; recipes; what is refused."""

import subprocess
import sys

import pytest
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.vae.settings import RECIPES, VAESettings, recipe_settings


def test_the_defaults():
    settings = VAESettings("data", "out")
    assert (settings.resolution, settings.num_users, settings.latent_channels) == (128, 31, 4)
    assert (settings.block_out_channels, settings.layers_per_block) == ((128, 256, 512), 1)
    assert (settings.learning_rate, settings.kl_weight, settings.downscale_factor) == (1e-4, 1e-6, 4)
    assert (settings.use_lpips, settings.use_ema, settings.fft_weight) == (False, False, 0.0)
    assert recipe_settings("standard", data_dir="data", output_dir="out") == settings


def test_recipes_differ_in_what_they_are_for():
    made = {name: recipe_settings(name, data_dir="data", output_dir="out") for name in RECIPES}
    memory, quality = made["memory"], made["quality"]
    assert memory.batch_size * memory.gradient_accumulation_steps == made["standard"].batch_size
    assert memory.batch_size < made["standard"].batch_size
    assert memory.mixed_precision == "bf16"
    assert memory.gradient_checkpointing
    assert quality.use_ema
    assert quality.use_lpips
    assert quality.epochs > made["standard"].epochs
    assert sum(made["small"].block_out_channels) < sum(made["standard"].block_out_channels) / 4
    assert recipe_settings("quality", data_dir="data", output_dir="out", use_lpips=False).use_lpips is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 30}, "multiple of 4"),
        ({"resolution": 4}, "resolution: expected at least 8"),
        ({"batch_size": 0}, "batch_size"),
        ({"epochs": 0}, "epochs"),
        ({"max_steps": 0}, "max_steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"kl_weight": -1.0}, "kl_weight"),
        ({"kl_weight": float("nan")}, "kl_weight"),
        ({"held_out": 1.0}, "held_out"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"mixed_precision": "fp8"}, "mixed_precision: expected one of no, bf16, fp16"),
        ({"lr_scheduler": "steps"}, "lr_scheduler"),
        ({"block_out_channels": ()}, "block_out_channels"),
        ({"block_out_channels": (8, 0)}, "block_out_channels"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        VAESettings("data", "out", **changes)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe():
    with pytest.raises(UsageError, match="standard, memory, quality, small"):
        recipe_settings("fast", data_dir="data", output_dir="out")


def test_reading_them_does_not_import_torch():
    code = "import sys; import relatent.systems.spectrogram.vae.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
