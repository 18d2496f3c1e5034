"""Spectrograms of two users, and a model that is trained on them for a few steps."""

from pathlib import Path

import pytest
from relatent.systems.spectrogram.vq.run import train_vq
from tiny_vq import TINY_TRANSFORMER, TINY_VQVAE
from vae_spectrograms import write_spectrograms


@pytest.fixture(scope="session")
def spectrograms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two users of three recordings of four pictures each, 32²: 16 to train on, 8 held out."""
    return write_spectrograms(tmp_path_factory.mktemp("data") / "spectrograms")


@pytest.fixture(scope="session")
def vq_dir(spectrograms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vq")
    train_vq(spectrograms, folder, "small", TINY_VQVAE, TINY_TRANSFORMER, progress=lambda line: None)
    return folder
