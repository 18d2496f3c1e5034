"""Where the iterations start: at the encoder's latents or at those of a tuned encoder, moved by steps of the encoder's own
correction, of one decoding and one encoding each, without a gradient.

z ← z − ρ (E(D(z)) − E(x)): where the decoder's picture encodes to something else than the target does, the latent moves
by the difference. Hong et al., "Gradient-free Decoder Inversion in Latent Diffusion Models", NeurIPS 2024.
"""

from dataclasses import dataclass

import torch

from ..autoencoders.autoencoder import Autoencoder
from ..calibration.fast_rewrites import loop_options
from ..loop_decoder import Decoded
from ..runtime.cuda_flags import exact_fp32
from ..runtime.device import resolve_precision
from ..tuning.tuned_encoder import ENCODER, tuned_autoencoder
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

    weights: (B, 1, H, W), for the error. encoded: E(targets), where it is known. The steps begin at the tuned encoder's
    latents where `config.start` names one; there is none without an encoder. Non-finite values of a step are left out. Decodes
    the encoder's latents in fp32, since the result is compared with them; everything else is in the loop's precision. Raises
    `UsageError` for a `start` that is not there or does not fit.
    """
    found = WarmStart(latents)
    starts_at_encoder = config.start == ENCODER
    if (config.warm_start == 0 and starts_at_encoder) or autoencoder.encoder is None:
        return found
    precision = resolve_precision(config.precision, autoencoder.device)
    exact = autoencoder.loop_decoder("fp32")
    if starts_at_encoder or config.has_target:  # a gain is counted from the encoder's latents
        with exact_fp32():
            found.start = exact.evaluate(latents, torch.zeros(len(latents), dtype=torch.int32, device=latents.device))
        found.error = exact.modality.squared_error(found.start.output, targets, weights)
    if not starts_at_encoder:
        found.latents = _finite(tuned_autoencoder(autoencoder, config.start).encode(targets, precision), latents)
    if config.warm_start == 0:
        return found
    wanted = autoencoder.encode(targets) if encoded is None else encoded
    for step in range(config.warm_start):
        if step == 0 and starts_at_encoder and found.start is not None:
            output = found.start.output.float()
        else:
            decoder = autoencoder.loop_decoder(precision, **loop_options(autoencoder, precision, latents))
            output = decoder(found.latents.to(decoder.dtype)).float()
        moved = found.latents - config.warm_start_rate * (autoencoder.encode(output, precision) - wanted)
        found.latents = _finite(moved, found.latents)
    return found


def _finite(latents: torch.Tensor, instead: torch.Tensor) -> torch.Tensor:
    """Return the latents, with the values of `instead` where they are not finite."""
    return torch.where(torch.isfinite(latents), latents, instead)
