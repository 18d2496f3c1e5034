"""Checks of tensors before any work: shapes that do not belong together, weights that cannot be used."""

import torch

from ...kernels.fused_loss import mean_one
from ..autoencoders.autoencoder import Autoencoder
from ..errors import UsageError


def check_tensors(**tensors: object) -> None:
    """Raise `UsageError` for what is no tensor, with the name that the caller knows it by, or holds no image."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise UsageError(f"{name}: expected a tensor, found {type(tensor).__name__}")
        if tensor.numel() == 0:
            raise UsageError(f"{name}: expected one image or more, found shape {tuple(tensor.shape)}")


def check_pair(autoencoder: Autoencoder, latents: torch.Tensor, targets: torch.Tensor) -> None:
    """Raise `UsageError` unless latents and targets (B, C, *spatial) are of one batch and belong to this autoencoder."""
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
    """Return the weight maps (B, 1, *spatial), bool or numbers ≥ 0, of `targets` as fp32 of mean 1 per image; raise
    `UsageError` for maps of another shape, with invalid values, or 0 everywhere."""
    expected = (targets.shape[0], 1, *targets.shape[2:])
    if tuple(weights.shape) != expected:
        raise UsageError(f"weights: expected shape {expected}, one map per image, found {tuple(weights.shape)}")
    if not torch.isfinite(weights).all():
        raise UsageError("weights: holds NaN or infinity; expected numbers of 0 or more")
    try:
        return mean_one(weights.detach().to(targets.device))
    except ValueError as error:
        raise UsageError(str(error)) from error
