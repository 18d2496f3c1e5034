"""Pictures of three invented walkers, and a validation of them, made once."""

from pathlib import Path

import pytest
from relatent.systems.spectrogram.data.spectrogram_folder import read_spectrograms
from relatent.systems.spectrogram.data.split import split_by_recording
from relatent.systems.spectrogram.validation.pictures import PictureSet, load_pictures
from small_walkers import write_walkers


@pytest.fixture(scope="session")
def walkers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """real/ with recordings, generated/ without; each of three users with twelve pictures."""
    folder = tmp_path_factory.mktemp("walkers")
    write_walkers(folder / "real")
    write_walkers(folder / "generated", recorded=False)
    return folder


@pytest.fixture(scope="session")
def halves(walkers: Path) -> tuple[PictureSet, PictureSet]:
    """Training pictures, and held-out ones of other recordings."""
    training, held_out = split_by_recording(read_spectrograms(walkers / "real"), 0.34)
    return load_pictures(training, 32), load_pictures(held_out, 32)
