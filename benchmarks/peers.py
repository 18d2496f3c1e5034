"""Baseline loops that this project is compared with, written as their authors run them."""

from collections.abc import Callable
from typing import Any

import torch

# σ is the standard deviation of the decoder's latents; the original's learning rates were chosen for Stable
# Diffusion's, σ ≈ 5.5.
ORIGINAL = {"original, default": (0.073, 150), "original, published": (0.0091, 50)}


def original_loop(
    decode: Callable[[torch.Tensor], torch.Tensor],
    latents: torch.Tensor,
    target: torch.Tensor,
    rate: float,
    iterations: int,
    betas: tuple[float, float] = (0.9, 0.999),
    gain: float | None = None,
) -> torch.Tensor:
    """Run Generative Latent Optimization as published and return the last iterate, (1, C, h, w).

    It is eager, in fp32, with torch's Adam, one image at a time, and calls `.item()` in every iteration.
    latents: (1, C, h, w). target: (1, 3, H, W) in [-1, 1]. rate: the learning rate in the unit of the latents.
    gain: the decrease of the loss in dB at which to stop, before the backward pass; the published loop has no such
    stop.
    """
    latents = latents.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([latents], lr=rate, betas=betas)
    losses: list[float] = []
    for _ in range(iterations):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(decode(latents), target)
        if gain is not None and losses and loss.item() <= losses[0] / 10.0 ** (gain / 10.0):
            break
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return latents.detach()


def run_original(
    decode: Callable[[torch.Tensor], torch.Tensor],
    latents: torch.Tensor,
    target: torch.Tensor,
    relative: float,
    iterations: int,
    **options: Any,
) -> torch.Tensor:
    """Call `original_loop` with a learning rate in units of σ, the standard deviation of `latents`, as in `ORIGINAL`."""
    return original_loop(decode, latents, target, relative * latents.std().item(), iterations, **options)
