"""Small real models and real pictures, made once per session."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import relatent

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def bsds500() -> Path:
    folder = SHARED / "bsds500"
    if not folder.is_dir():
        pytest.skip("../shared/bsds500 is not here: BSDS500's photographs are not part of the project")
    return folder


@pytest.fixture(scope="session")
def taef2_weights() -> Path:
    folder = SHARED / "weights" / "taef2"
    if not folder.is_dir():
        pytest.skip("../shared/weights/taef2 is not here: TAEF2's weights are not part of the project")
    return folder


def small_kl(seed: int = 0, **changes):
    """An AutoencoderKL with random weights: 4 channels, factor 8, a few thousand parameters."""
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    settings = dict(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 8, 8, 8),
        norm_num_groups=2,
        layers_per_block=1,
        latent_channels=4,
        sample_size=32,
        scaling_factor=0.3,
    )
    return AutoencoderKL(**(settings | changes))


@pytest.fixture(scope="session")
def vae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model in diffusers' folder layout."""
    folder = tmp_path_factory.mktemp("model") / "small"
    small_kl().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def small_vae(vae_folder: Path) -> relatent.Autoencoder:
    return relatent.load_autoencoder(vae_folder, device="cpu")


def picture(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """Smooth colours and a few edges, uint8 (height, width, 3), full range."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / rng.uniform(3, 20) + y / rng.uniform(3, 20) + rng.uniform(0, 6)) for _ in range(3)]
    image = np.stack(waves, -1) * 127.5 + 127.5
    image[height // 4 : height // 2, width // 4 : width // 2] = rng.integers(0, 256, 3)
    image[0, 0], image[0, 1] = 0, 255
    return image.astype(np.uint8)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder with train/ (two), test/ (one) and one picture outside the splits."""
    folder = tmp_path / "photographs"
    for seed, name in enumerate(("train/first.png", "train/second.jpg", "test/third.png", "loose.bmp")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed=seed)).save(path)
    return folder


@pytest.fixture
def targets() -> torch.Tensor:
    """(3, 3, 32, 32) in [-1, 1]."""
    images = np.stack([picture(32, 32, seed) for seed in range(3)])
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1.0
