"""What the tuning of an encoder minimises, per crop: the logarithm of a mean squared error of the picture.

Of the decoded picture itself, ‖D(E(x)) − x‖², which needs no latents; or of its linearisation at optimised latents z*,
‖J (E(x) − z*)‖², J the decoder's derivative: then no step runs the decoder. JᵀJ, averaged over positions, is a C × C matrix
S(f) for each spatial frequency, as in `calibration/preconditioner.py`. The logarithm gives each crop the same weight, in
decibels.
"""

from collections.abc import Callable

import torch

from ..autoencoders.autoencoder import Autoencoder
from ..calibration.preconditioner import curvature
from ..errors import UsageError

PROBES = 8  # random pictures per latent that JᵀJ is averaged over

Objective = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
# (E(x) (B, C, h, w), x (B, 3, H, W), z* (B, C, h, w) or None) -> (B,)


def decoded_error(autoencoder: Autoencoder) -> Objective:
    """Return ln of the decoded picture's mean squared error, per crop."""
    decoder = autoencoder.loop_decoder("fp32")

    def objective(latents: torch.Tensor, targets: torch.Tensor, _optimised: torch.Tensor | None) -> torch.Tensor:
        return _log_mean((decoder(latents).float() - targets).square())

    return objective


def linearised_error(autoencoder: Autoencoder, latents: torch.Tensor, seed: int) -> Objective:
    """Return ln of the linearised mean squared error, per crop, for latents of the shape of `latents` (B, C, h, w), at which
    the decoder's derivative is measured."""
    if latents.ndim != 4:
        raise UsageError("the objectives latents and both need latents of two spatial axes; use the objective decoder")
    generator = torch.Generator().manual_seed(seed)
    sensitivity = curvature(autoencoder, latents.split(1), PROBES, generator).to(latents.device)
    values = autoencoder.decode(latents[:1]).numel()

    def objective(latents: torch.Tensor, _targets: torch.Tensor, optimised: torch.Tensor | None) -> torch.Tensor:
        assert optimised is not None, "this objective needs optimised latents"
        waves = torch.fft.fft2(latents - optimised, norm="ortho").permute(0, 2, 3, 1)
        changed = torch.einsum("bhwi,hwij,bhwj->b", waves.conj(), sensitivity, waves).real
        return (changed / values).clamp_min(1e-12).log()

    return objective


def build_objective(name: str, autoencoder: Autoencoder, latents: torch.Tensor, seed: int) -> Objective:
    """Return the objective of that name in `settings.OBJECTIVES`. latents: (B, C, h, w) of crops, to measure at."""
    if name == "decoder":
        return decoded_error(autoencoder)
    linearised = linearised_error(autoencoder, latents, seed)
    if name == "latents":
        return linearised
    decoded = decoded_error(autoencoder)
    return lambda *given: decoded(*given) + linearised(*given)


def _log_mean(values: torch.Tensor) -> torch.Tensor:
    return values.flatten(1).mean(1).clamp_min(1e-12).log()
