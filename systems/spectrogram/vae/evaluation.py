"""What a VAE does to pictures it has not seen, and how its latents are distributed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ....engine.losses.metrics import psnr, ssim
from ....engine.statistics.moments import Moments
from ..data.dataset import SpectrogramDataset
from .model import VAEModel

GRID = 8  # pictures that are shown beside their reconstructions


@dataclass(frozen=True)
class Reconstruction:
    """Means over pictures, with the posterior's mean as latents. shown: (2, n, 3, R, R), n pictures above what came out."""

    psnr: float  # dB
    ssim: float
    shown: Tensor


def reconstruction_quality(
    vae: VAEModel, dataset: SpectrogramDataset, batch_size: int, limit: int | None = None, workers: int = 0
) -> Reconstruction:
    """Reconstruct pictures of a data set without augmentation, in fp32. limit: evenly spaced over it; None: all."""
    device = next(vae.parameters()).device

    def reconstruct(images: Tensor) -> Tensor:
        decoded: Tensor = vae.decode(vae.encode(images.to(device)).latent_dist.mode()).sample
        return decoded

    return picture_quality(reconstruct, dataset, batch_size, limit, workers)


@torch.no_grad()
def picture_quality(
    reconstruct: Callable[[Tensor], Tensor],
    dataset: SpectrogramDataset,
    batch_size: int,
    limit: int | None = None,
    workers: int = 0,
) -> Reconstruction:
    """The same of any function from pictures (B, 3, R, R) in [−1, 1] to reconstructions of that shape, on any device."""
    psnrs: list[Tensor] = []
    ssims: list[Tensor] = []
    shown: list[Tensor] = []
    for images in _pictures(dataset, batch_size, limit, workers):
        decoded = reconstruct(images)
        images = images.to(decoded.device)
        psnrs.append(psnr(decoded, images))
        ssims.append(ssim(decoded.clamp(-1.0, 1.0), images))
        if batch_size * len(shown) < GRID:
            shown.append(torch.stack([images, decoded.clamp(-1.0, 1.0)]).cpu())
    return Reconstruction(
        float(torch.cat(psnrs).mean()), float(torch.cat(ssims).mean()), torch.cat(shown, dim=1)[:, :GRID]
    )


@torch.no_grad()
def latent_statistics(
    vae: VAEModel, dataset: SpectrogramDataset, batch_size: int, limit: int | None = None, workers: int = 0
) -> dict[str, Any]:
    """Return `latent_mean`, `latent_std` and `scaling_factor` = 1/`latent_std` of the posterior's means over a data set.

    Also `channel_mean` and `channel_std`, lists with a number per channel; the single numbers are of all channels together.
    """
    device = next(vae.parameters()).device
    parts = []
    for images in _pictures(dataset, batch_size, limit, workers):
        latents = vae.encode(images.to(device)).latent_dist.mode()
        parts.append(Moments.of(latents.transpose(0, 1).flatten(1).cpu().numpy()))
    moments = reduce(Moments.merge, parts)
    whole = moments.pooled()
    return {
        "latent_mean": float(whole.mean[0]),
        "latent_std": float(whole.std[0]),
        "scaling_factor": 1.0 / float(whole.std[0]),
        "channel_mean": moments.mean.tolist(),
        "channel_std": moments.std.tolist(),
    }


def _pictures(dataset: SpectrogramDataset, batch_size: int, limit: int | None, workers: int) -> Iterator[Tensor]:
    """Batches (B, 3, R, R)."""
    count = len(dataset) if limit is None else min(limit, len(dataset))
    rows = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
    batches = [rows[i : i + batch_size] for i in range(0, count, batch_size)]
    # a generator of its own: making the loader would draw from torch's
    for batch in DataLoader(dataset, batch_sampler=batches, num_workers=workers, generator=torch.Generator()):
        yield batch["image"]
