import pytest
import torch
from relatent.systems.anomaly.model.vqvae import VQVAE3D, build_vqvae_3d
from relatent.systems.anomaly.restoration.normality import Normality
from torch import Tensor

SIDE = 16


@pytest.fixture(scope="module")
def volumes() -> Tensor:
    """(6, 1, 16, 16, 16) smooth volumes in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(6, 1, 4, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(SIDE,) * 3, mode="trilinear")


@pytest.fixture(scope="module")
def model(volumes: Tensor) -> VQVAE3D:
    """A small VQ-VAE after a short training on the volumes, so that its statistics and codes are of real latents."""
    torch.manual_seed(0)
    config = {"hidden_channels": [8, 8], "embedding_dim": 8, "num_embeddings": 32, "use_ema": True, "dropout": 0.0}
    model = build_vqvae_3d(config)
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], 5e-3)
    for _ in range(40):
        out = model(volumes)
        optimizer.zero_grad()
        ((out.reconstruction - volumes).abs().mean() + out.vq_loss).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def normality(model: VQVAE3D, volumes: Tensor) -> Normality:
    return Normality.fit(model, list(volumes))
