"""Steps of the encoder's own correction before the first iteration: no gradient, one decoding and one encoding each.

z ← z − ρ (E(D(z)) − E(x)): where the decoder's picture encodes to something else than the target does, the latent moves
by the difference. Hong et al., "Gradient-free Decoder Inversion in Latent Diffusion Models", NeurIPS 2024.
"""

from dataclasses import dataclass

import torch

from ..autoencoders.autoencoder import Autoencoder
from ..runtime.device import resolve_precision
from .config import OptimizationConfig


@dataclass
class WarmStart:
    """The latents at which the iterations start, and what was computed of the encoder's latents on the way."""

    latents: torch.Tensor  # (B, *latent shape) fp32
    error: torch.Tensor | None = None  # (B,), clamped squared error at the encoder's latents; None where not decoded


@torch.no_grad()
def warm_start(
    autoencoder: Autoencoder,
    config: OptimizationConfig,
    latents: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor | None = None,
    encoded: torch.Tensor | None = None,
) -> WarmStart:
    """`config.warm_start` steps from `latents` (B, *latent shape) towards `targets` (B, C, *spatial) in the modality's range.

    weights: (B, 1, H, W), for the error. encoded: E(targets), where it is known. No step without an encoder;
    non-finite values of a step are left out. Decodes and encodes in the loop's precision.
    """
    found = WarmStart(latents)
    if config.warm_start == 0 or autoencoder.encoder is None:
        return found
    precision = resolve_precision(config.precision, autoencoder.device)
    decoder = autoencoder.loop_decoder(precision)
    wanted = autoencoder.encode(targets) if encoded is None else encoded
    for _ in range(config.warm_start):
        output = decoder(found.latents.to(decoder.dtype)).float()
        if found.error is None:
            found.error = decoder.modality.squared_error(output, targets, weights)
        moved = found.latents - config.warm_start_rate * (autoencoder.encode(output, precision) - wanted)
        found.latents = torch.where(torch.isfinite(moved), moved, found.latents)
    return found
