"""Steps of the encoder's own correction before the first iteration: no gradient, one decoding and one encoding each.

z ← z − ρ (E(D(z)) − E(x)): where the decoder's picture encodes to something else than the target does, the latent moves
by the difference. Hong et al., "Gradient-free Decoder Inversion in Latent Diffusion Models", NeurIPS 2024.
"""

from dataclasses import dataclass

import torch

from ..autoencoders.autoencoder import Autoencoder
from ..loop_decoder import Decoded
from ..runtime.device import resolve_precision
from .config import OptimizationConfig


@dataclass
class WarmStart:
    """The latents at which the iterations start, and what was computed of the encoder's latents on the way."""

    latents: torch.Tensor  # (B, *latent shape) fp32
    start: Decoded | None = None  # the encoder's latents decoded in fp32, without a gradient; None where not decoded
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
    non-finite values of a step are left out. Decodes the encoder's latents in fp32, since the result is compared with them;
    everything else is in the loop's precision.
    """
    found = WarmStart(latents)
    if config.warm_start == 0 or autoencoder.encoder is None:
        return found
    precision = resolve_precision(config.precision, autoencoder.device)
    decoder, exact = autoencoder.loop_decoder(precision), autoencoder.loop_decoder("fp32")
    wanted = autoencoder.encode(targets) if encoded is None else encoded
    for _ in range(config.warm_start):
        if found.start is None:
            found.start = exact.evaluate(latents, torch.zeros(len(latents), dtype=torch.int32, device=latents.device))
            output = found.start.output.float()
            found.error = exact.modality.squared_error(output, targets, weights)
        else:
            output = decoder(found.latents.to(decoder.dtype)).float()
        moved = found.latents - config.warm_start_rate * (autoencoder.encode(output, precision) - wanted)
        found.latents = torch.where(torch.isfinite(moved), moved, found.latents)
    return found
