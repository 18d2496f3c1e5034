"""What a family takes out of a diffusers autoencoder, and what it reads from its configuration."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...errors import UsageError
from ..scaling import ChannelScaling, FactorScaling, Scaling

DEFAULT_SIZE = 512  # pixels; where a configuration does not say what side the autoencoder is made for


@dataclass(frozen=True)
class Parts:
    """The parts of an autoencoder. Modules share the weights of the model that they were taken from."""

    decoder: nn.Module  # (B, C, h, w) -> (B, 3, H, W) in the value range
    encoder: nn.Module  # (B, 3, H, W) in the value range -> (B, C, h, w), the posterior's mode
    latent_channels: int
    downscale_factor: int  # pixels per latent cell
    scaling: Scaling
    native_size: int = DEFAULT_SIZE
    value_range: tuple[float, float] = (-1.0, 1.0)


def native_size(config: Any, factor: int) -> int:
    """The side in pixels that a configuration names, where it is a whole number of latent cells."""
    size = config.get("sample_size", None)
    size = size[0] if isinstance(size, list | tuple) and size else size
    return size if isinstance(size, int) and size > 0 and size % factor == 0 else DEFAULT_SIZE


def config_scaling(config: Any, channels: int, mean: Any = None, std: Any = None) -> Scaling:
    """How pipelines scale the latents of an autoencoder with this configuration: by factor and shift, or, where it has
    `latents_mean` and `latents_std`, per channel.

    mean, std: where the model keeps them itself; None: the configuration's, in any shape with one number per channel.
    Raises `UsageError` where their numbers are not one per channel.
    """
    factor = config.get("scaling_factor", None)
    factor = 1.0 if factor is None else float(factor)
    mean = config.get("latents_mean", None) if mean is None else mean
    std = config.get("latents_std", None) if std is None else std
    if mean is None or std is None:
        return FactorScaling(factor, float(config.get("shift_factor", None) or 0.0))
    return ChannelScaling(_per_channel(mean, channels), _per_channel(std, channels), factor)


def _per_channel(values: Any, channels: int) -> tuple[float, ...]:
    flat = torch.as_tensor(values, dtype=torch.float64).flatten()
    if flat.numel() != channels:
        raise UsageError(
            f"latents_mean and latents_std: expected one number for each of {channels} channels, found {flat.numel()}"
        )
    return tuple(flat.tolist())


def check_rgb(kind: str, inputs: int, outputs: int) -> None:
    """Raise `UsageError` unless an autoencoder takes and gives pictures of three channels."""
    if (inputs, outputs) != (3, 3):
        raise UsageError(
            f"this {kind} takes {inputs} and gives {outputs} channels, RGB pictures have 3; use an RGB autoencoder, or give "
            "its decoder as a module with a modality of its own: load_autoencoder(decoder, encoder=…, modality=…)"
        )
