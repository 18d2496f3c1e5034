"""Refuses tensors that would train silently on garbage: wrong shapes, wrong ranges."""

import torch

from ...kernels.fused_loss import mean_one
from ..autoencoders.autoencoder import Autoencoder
from ..errors import UsageError

_SLACK = 1e-3  # resampling and 16-bit storage overshoot by this much


def check_images(images: torch.Tensor, what: str = "images") -> None:
    """(B, 3, H, W) floating point in [-1, 1]; a tensor that looks like [0, 1] or [0, 255] is refused."""
    if images.ndim != 4:
        raise UsageError(f"{what}: expected shape (B, 3, H, W), found {tuple(images.shape)}")
    if not images.is_floating_point():
        raise UsageError(
            f"{what}: expected floating point in [-1, 1], found {images.dtype}; use x / 127.5 - 1 for 0…255"
        )
    if not torch.isfinite(images).all():
        raise UsageError(f"{what}: holds NaN or infinity; expected finite values in [-1, 1]")
    low, high = images.min().item(), images.max().item()
    if low >= -_SLACK and high > 1.0 + _SLACK:
        raise UsageError(
            f"{what}: values from {low:.3g} to {high:.3g} look like [0, 255]; use x / 127.5 - 1 for [-1, 1]"
        )
    if low < -1.0 - _SLACK or high > 1.0 + _SLACK:
        raise UsageError(
            f"{what}: values from {low:.3g} to {high:.3g} are outside [-1, 1]; scale them, or clamp overshoot"
        )
    # A picture in [-1, 1] without anything below mid-grey is very rare; one in [0, 1] always looks like that.
    if low >= 0.0 and high > low:
        raise UsageError(f"{what}: values from {low:.3g} to {high:.3g} look like [0, 1]; use 2 * x - 1 for [-1, 1]")


def check_pair(autoencoder: Autoencoder, latents: torch.Tensor, targets: torch.Tensor) -> None:
    """Latents (B, C, h, w) and targets (B, 3, H, W) of one batch that belong to this autoencoder."""
    if latents.ndim < 3 or not latents.is_floating_point():
        raise UsageError(
            f"latents: expected floating point of shape (B, C, h, w), found {latents.dtype} {tuple(latents.shape)}"
        )
    if latents.shape[0] != targets.shape[0]:
        raise UsageError(f"batch sizes differ: {latents.shape[0]} latents, {targets.shape[0]} targets")
    channels, factor = autoencoder.latent_channels, autoencoder.downscale_factor
    if channels is not None and latents.shape[1] != channels:
        raise UsageError(
            f"latents: {autoencoder.name!r} has {channels} channels, found {latents.shape[1]}; they belong to another autoencoder"
        )
    if factor is not None:
        expected = tuple(side * factor for side in latents.shape[2:])
        if tuple(targets.shape[2:]) != expected:
            raise UsageError(
                f"targets: latents of {tuple(latents.shape[2:])} decode to {expected}, found {tuple(targets.shape[2:])}"
            )


def check_weights(weights: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Weight maps (B, 1, H, W), bool or numbers ≥ 0, of `targets` (B, 3, H, W) -> fp32, mean 1 per image."""
    expected = (targets.shape[0], 1, *targets.shape[2:])
    if tuple(weights.shape) != expected:
        raise UsageError(f"weights: expected shape {expected}, one map per image, found {tuple(weights.shape)}")
    if not torch.isfinite(weights).all():
        raise UsageError("weights: holds NaN or infinity; expected numbers of 0 or more")
    try:
        return mean_one(weights.detach().to(targets.device))
    except ValueError as error:
        raise UsageError(str(error)) from error
