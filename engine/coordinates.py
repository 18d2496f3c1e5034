"""The coordinates in which latents are optimised. A new kind is one class with the methods of `Coordinates`.

Adam moves every coordinate by about its learning rate, so coordinates in which the loss is about equally sensitive to all
of them need fewer iterations. The iterations start at w = 0, which stands for the latents `origin`.
"""

import torch
import torch.nn.functional as F

from ..kernels.frozen_conv import turn
from .losses.regularisers import latent_std


class Coordinates:
    """The latents themselves: the tensor that is optimised is what the decoder takes."""

    direct = True  # whether the coordinates are the latents, so that an optimiser's step needs no mapping

    def to_latents(self, origin: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
        """(B, *latent shape) fp32 where the iterations started, and coordinates -> latents of that shape."""
        return coordinates

    def vjp(self, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient with respect to latents (B, *latent shape) -> with respect to the coordinates, contiguous."""
        return gradient.contiguous()

    def initial_std(self, initial: torch.Tensor) -> torch.Tensor:
        """(B,) fp32: σ of each sample's initial latents (B, *latent shape), the unit of a relative learning rate."""
        return latent_std(initial)


class WhiteningCoordinates(Coordinates):
    """z = origin + P w, P the convolution with a filter (C, C, k, k) fp32; see `calibration/preconditioner.py`."""

    direct = False

    def __init__(self, kernel: torch.Tensor):
        self.kernel, self.turned = kernel, turn(kernel).contiguous()

    def to_latents(self, origin: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
        return origin + F.conv2d(coordinates, self.kernel, padding="same")

    def vjp(self, gradient: torch.Tensor) -> torch.Tensor:
        return F.conv2d(gradient.float(), self.turned, padding="same").contiguous()


class ScaledCoordinates(Coordinates):
    """z = origin + s · w, s > 0 of a shape that broadcasts to the latents: one scale per part, channel or value."""

    direct = False

    def __init__(self, scale: torch.Tensor):
        self.scale = scale

    def to_latents(self, origin: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
        return origin + self.scale * coordinates

    def vjp(self, gradient: torch.Tensor) -> torch.Tensor:
        return (gradient.float() * self.scale).contiguous()

    def initial_std(self, initial: torch.Tensor) -> torch.Tensor:
        return latent_std(initial / self.scale)
