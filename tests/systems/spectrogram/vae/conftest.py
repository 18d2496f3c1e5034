"""Small pictures, and settings of a training of seconds."""

from pathlib import Path

import pytest
from relatent.systems.spectrogram.vae.settings import VAESettings
from vae_spectrograms import write_spectrograms


@pytest.fixture(scope="session")
def spectrograms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two users of three recordings of four pictures each, 32²: 16 to train on, 8 held out."""
    return write_spectrograms(tmp_path_factory.mktemp("data") / "spectrograms")


@pytest.fixture
def small_settings(spectrograms: Path, tmp_path: Path):
    """A function from changes to settings; four updates in an epoch."""

    def make(out: str = "out", **changes) -> VAESettings:
        small = dict(
            resolution=32, num_users=2, block_out_channels=(8, 8), batch_size=4, epochs=2, learning_rate=3e-3,
            lr_warmup_steps=4, device="cpu", log_every=1,
        )  # fmt: skip
        return VAESettings(str(spectrograms), str(tmp_path / out), **{**small, **changes})

    return make
