"""Small real models and real pictures, made once per session."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

if torch.cuda.is_available():
    torch.backends.cudnn.allow_tf32 = False  # what is compared in fp32 is computed in fp32
else:
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported: kernels then run on CPU tensors
# what is measured of small random decoders stays out of the user's cache
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "relatent")

import relatent
from helpers import picture, small_kl
from PIL import Image

if "PYTEST_XDIST_WORKER" in os.environ:  # several at once: their threads would only wait for each other
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for processes that tests start

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


@pytest.fixture(scope="session")
def real_volumes() -> Path:
    folder = SHARED / "data" / "volumes"
    if not folder.is_dir():
        pytest.skip("../shared/data/volumes is not here: the scans are not part of the project")
    return folder


@pytest.fixture(scope="session")
def vae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model in diffusers' folder layout."""
    folder = tmp_path_factory.mktemp("model") / "small"
    small_kl().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def small_vae(vae_folder: Path) -> relatent.Autoencoder:
    return relatent.load_autoencoder(vae_folder, device="cpu")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Here and in processes that are started: with other numbers of threads the last bits of a result may differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


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
