"""What a method may know of a decoder beforehand, gathered once from photographs that are not measured."""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.calibration.preconditioner import curvature, power_filter, whiten

Filter = Callable[[torch.Tensor], torch.Tensor]  # (1, C, h, w) -> the same, linear and symmetric

PROBES = 8  # random pictures pulled back through the decoder, per photograph
NOISE = 0.1  # in σ, what a surrogate's training latents are moved by, so that it learns the decoder's response


class Learned:
    """Of one decoder, from (1, 3, H, W) targets; each property is computed when first asked for."""

    def __init__(self, autoencoder: Autoencoder, targets: Sequence[torch.Tensor]):
        self.autoencoder = autoencoder
        self.targets = list(targets)

    @cached_property
    def latents(self) -> list[torch.Tensor]:
        return [self.autoencoder.encode(target) for target in self.targets]

    @cached_property
    def channel_rates(self) -> torch.Tensor:
        """(1, C, 1, 1), of root mean square 1: one over the root mean square of the loss's gradient in each channel."""
        moments = []
        for latents, target in zip(self.latents, self.targets, strict=True):
            latents = latents.clone().requires_grad_(True)
            picture = self.autoencoder.decode(latents)
            (gradient,) = torch.autograd.grad(picture, latents, picture.detach() - target)
            moments.append(gradient.square().mean((0, 2, 3)))
        rates = torch.stack(moments).mean(0).rsqrt()
        return (rates / rates.square().mean().sqrt()).view(1, -1, 1, 1)

    @cached_property
    def curvature(self) -> torch.Tensor:
        """(h, w, C, C) complex: the decoder's JᵀJ as if it were the same everywhere, for each frequency."""
        return curvature(self.autoencoder, self.latents, PROBES, torch.Generator().manual_seed(0))

    def whitener(self, damping: float, side: int = 11) -> Filter:
        """(JᵀJ / mean + damping)^(-1/2), which keeps the root mean square of white noise, as a convolution."""
        return self._convolution(whiten(self.curvature, damping, side))

    def inverse(self, damping: float, side: int = 11) -> Filter:
        """(JᵀJ + damping · mean)^(-1), as a convolution."""
        mean = self.curvature.diagonal(dim1=-2, dim2=-1).real.mean()
        return self._convolution(power_filter(self.curvature, -1.0, damping, side) / mean)

    def _convolution(self, kernel: torch.Tensor) -> Filter:
        kernel = kernel.to(self.autoencoder.device)
        return lambda latents: F.conv2d(latents, kernel, padding="same")

    @cached_property
    def surrogate(self) -> torch.Tensor:
        """(3f², C, 3, 3): 3×3 cells of latents to one cell's f×f pixels, by least squares on decoded photographs."""
        generator = torch.Generator().manual_seed(0)
        left, right = [], []
        for latents in self.latents:
            noise = torch.randn(latents.shape, generator=generator).to(latents) * NOISE * latents.std()
            for moved in (latents, latents + noise):
                with torch.no_grad():
                    picture = self.autoencoder.decode(moved)
                cell = picture.shape[-1] // moved.shape[-1]
                patches = F.unfold(moved, 3, padding=1)[0].T  # (cells, 9C)
                left.append(torch.cat([patches, torch.ones_like(patches[:, :1])], 1))  # a constant, not kept
                right.append(F.pixel_unshuffle(picture, cell)[0].flatten(1).T)
        equations, pixels = torch.cat(left).double(), torch.cat(right).double()
        normal = equations.T @ equations
        ridge = 1e-3 * normal.diagonal().mean() * torch.eye(len(normal), dtype=normal.dtype, device=normal.device)
        solution = torch.linalg.solve(normal + ridge, equations.T @ pixels)[:-1].float()
        return solution.T.reshape(pixels.shape[1], -1, 3, 3).contiguous()
