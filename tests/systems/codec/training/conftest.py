"""Small noisy pictures to train on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of six pictures of 96×80 pixels: smooth waves with noise."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:80, 0:96]
    for index in range(6):
        waves = np.stack([np.sin(rows / (5 + c + index) + columns / (7 + index)) for c in range(3)], -1)
        pixels = 127.5 + 90 * waves + rng.normal(0, 8, waves.shape)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return folder
