"""The loops this project is measured against, written as their authors run them."""

from collections.abc import Callable

import torch

# σ is the spread of the decoder's latents; the original's rates were set on Stable Diffusion's, σ ≈ 5.5
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
    """Generative Latent Optimization as published: eager fp32, torch's Adam, one image, `.item()` every iteration.

    latents (1, C, h, w), target (1, 3, H, W) in [-1, 1], rate in the latent's unit. gain: dB that its loss has fallen
    by when it ends, before the backward pass; the published loop has no such end. Returns the last iterate.
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
