"""What is promised of the bundled autoencoder and of TAEF2, on real photographs."""

from pathlib import Path

import pytest
import relatent
import torch
from relatent.engine.inputs.images import load_image
from relatent.engine.losses.metrics import psnr

TINY = Path(relatent.__file__).parent / "engine" / "autoencoders" / "tiny"


def targets(folder: Path) -> torch.Tensor:
    return torch.cat([load_image(path, 256).tensor() for path in sorted(folder.glob("*/*.jpg"))])


def test_tiny_is_small_and_described():
    weights = TINY / "diffusion_pytorch_model.safetensors"
    assert weights.stat().st_size <= 8_000_000
    card = (TINY / "README.md").read_text(encoding="utf-8")
    for word in ("dB", "seed", "steps", "scikit-image", "train_tiny_vae.py"):
        assert word in card


def test_tiny_reconstructs_photographs_it_never_saw(bsds500):
    vae = relatent.load_autoencoder("tiny", device="cpu")
    images = targets(bsds500)
    assert len(images) == 24
    quality = torch.cat([psnr(vae.decode(vae.encode(part)), part) for part in images.split(4)])
    assert quality.mean().item() >= 21.5


@pytest.mark.slow
def test_tiny_gains_on_them(bsds500, tmp_path):
    """One photograph of each split; the full set is the README's command."""
    config = relatent.OptimizationConfig()
    run = relatent.optimize_directory(bsds500, tmp_path / "out", "tiny", config=config, size=256, limit=1, device="cpu")
    assert run["counts"]["done"] == 3
    assert run["statistics"]["psnr_improvement"]["min"] > 1.5


@pytest.mark.slow
def test_taef2_gains_five_decibels_in_thirty_iterations(bsds500, taef2_weights, tmp_path):
    config = relatent.OptimizationConfig(iterations=30)
    run = relatent.optimize_directory(
        bsds500 / "test",
        tmp_path / "out",
        "taef2",
        config=config,
        weights=taef2_weights,
        size=128,
        limit=3,
        device="cpu",
    )
    assert run["statistics"]["psnr_improvement"]["mean"] >= 5.0
    assert run["statistics"]["psnr_improvement"]["min"] > 0.0
