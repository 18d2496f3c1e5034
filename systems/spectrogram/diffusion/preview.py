"""Samples to look at while a training goes on: a row for each of some users."""

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from ....engine.runtime.atomic import atomic_path
from .draws import sample_seed
from .latent_scaling import LatentScaling
from .network import ConditionalUNet
from .sampler import sample_latents

USERS, SAMPLES, STEPS = 4, 4, 20
SEED = 0  # the same for every grid, so that they show what the training changes
Decode = Callable[[Tensor], Tensor]  # unscaled latents to pictures (B, 3, H, W) in [−1, 1]


def sample_rows(network: ConditionalUNet, scaling: LatentScaling, scale: float, decode: Decode | None) -> Tensor:
    """Pictures (R, n, 3, H, W) in [−1, 1], by user and sample; without `decode` the first channels of the latents, ±3σ."""
    users = torch.arange(min(USERS, network.condition.num_users)).repeat_interleave(SAMPLES)
    seeds = [sample_seed(SEED, user, index % SAMPLES) for index, user in enumerate(users.tolist())]
    latents = sample_latents(network, scaling, users, seeds, scale, STEPS)
    if decode is not None:
        pictures = decode(latents)
    else:
        channels = [channel % latents.shape[1] for channel in range(3)]
        pictures = scaling.scale(latents)[:, channels] / 3.0
    return pictures.clamp(-1.0, 1.0).float().cpu().unflatten(0, (-1, SAMPLES))


def save_grid(rows: Tensor, path: Path) -> None:
    """Write rows of pictures, (R, n, 3, H, W) in [−1, 1], as one PNG. Nothing is drawn into the pictures."""
    grid = make_grid(rows.flatten(0, 1), nrow=rows.shape[1], value_range=(-1, 1), normalize=True)
    pixels = (grid * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary)
