"""Spectrograms of two users, a VAE, and a model that is trained on them for a few steps."""

from pathlib import Path

import pytest
from relatent.systems.spectrogram.diffusion.run import train_on_spectrograms
from tiny_diffusion import TINY, tiny_vae
from vae_spectrograms import write_spectrograms


@pytest.fixture(scope="session")
def spectrograms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two users of three recordings of four pictures each, 32²: 16 to train on, 8 held out."""
    return write_spectrograms(tmp_path_factory.mktemp("data") / "spectrograms")


@pytest.fixture(scope="session")
def vae_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vae(tmp_path_factory.mktemp("vae"))


@pytest.fixture(scope="session")
def model_dir(spectrograms: Path, vae_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With averaged weights."""
    folder = tmp_path_factory.mktemp("model")
    train_on_spectrograms(spectrograms, vae_dir, folder, **TINY, use_ema=True, progress=lambda line: None)
    return folder
