"""A small model, few volumes of 32³, and a training of them."""

from pathlib import Path

import pytest
import torch
from relatent.systems.anomaly.model.configuration import VQVAEConfig
from relatent.systems.anomaly.training.data_module import VolumeDataModule
from relatent.systems.anomaly.training.fold import Fold, train_fold
from relatent.systems.anomaly.training.lightning_module import VQVAEModule
from relatent.systems.anomaly.training.settings import TrainingSettings
from small_volumes import write_volumes
from torch.utils.data import TensorDataset

SMALL = VQVAEConfig(hidden_channels=(4, 4, 8, 8), embedding_dim=8, num_embeddings=16, use_ema=True)


def volumes(count: int, seed: int) -> TensorDataset:
    """Spheres of various radii with noise, (count, 1, 32, 32, 32) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    radius = torch.linspace(-1, 1, 32).square()
    distance = (radius[:, None, None] + radius[None, :, None] + radius).sqrt()
    sizes = 0.3 + 0.5 * torch.rand(count, 1, 1, 1, 1, generator=generator)
    noise = 0.1 * torch.rand(count, 1, 32, 32, 32, generator=generator)
    return TensorDataset(0.8 * (distance < sizes) + noise)


@pytest.fixture
def train(tmp_path: Path):
    """A function that trains and returns trainer and module; keyword arguments are training settings."""

    def train(model: VQVAEConfig = SMALL, folder: str = "out", **settings):
        common = {"epochs": 3, "accelerator": "cpu", "log_image_freq": 2, "learning_rate": 1e-3}
        module = VQVAEModule(model, TrainingSettings(**{**common, **settings}))
        data = VolumeDataModule(volumes(6, 0), volumes(2, 1), batch_size=2)
        return train_fold(Fold(tmp_path / folder, "exp", 1), module, data), module

    return train


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    """Overrides for a folder of eight volumes of four patients in three folds, and a small model."""
    return write_volumes(tmp_path / "volumes")
