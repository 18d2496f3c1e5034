"""Steps of the encoder's own correction before the first iteration: no gradient, one decoding and one encoding each.

z ← z − ρ (E(D(z)) − E(x)): where the decoder's picture encodes to something else than the target does, the latent moves
by the difference. Hong et al., "Gradient-free Decoder Inversion in Latent Diffusion Models", NeurIPS 2024.
"""

import torch

from .autoencoder import Autoencoder
from .config import OptimizationConfig
from .device import resolve_precision


@torch.no_grad()
def warm_start(
    autoencoder: Autoencoder,
    config: OptimizationConfig,
    latents: torch.Tensor,
    targets: torch.Tensor,
    encoded: torch.Tensor | None = None,
) -> torch.Tensor:
    """(B, C, h, w) latents and (B, 3, H, W) targets in [-1, 1] -> latents after `config.warm_start` steps.

    encoded: E(targets), where it is known. The latents themselves for 0 steps, or without an encoder; non-finite values
    of a step are left out. Decodes and encodes in the loop's precision.
    """
    if config.warm_start == 0 or autoencoder.encoder is None:
        return latents
    precision = resolve_precision(config.precision, autoencoder.device)
    decode, dtype = autoencoder.loop_decoder(precision)
    wanted = autoencoder.encode(targets) if encoded is None else encoded
    for _ in range(config.warm_start):
        picture = decode(latents.to(dtype)).float()
        moved = latents - config.warm_start_rate * (autoencoder.encode(picture, precision) - wanted)
        latents = torch.where(torch.isfinite(moved), moved, latents)
    return latents
