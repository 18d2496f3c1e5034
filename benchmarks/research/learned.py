"""Properties of a decoder that a method may know beforehand, measured once on photographs of another split."""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.calibration.preconditioner import curvature, power_filter, whiten

Filter = Callable[[torch.Tensor], torch.Tensor]  # (1, C, h, w) -> the same shape; linear and symmetric.

PROBES = 8  # Random images per photograph whose vector–Jacobian products with the decoder are computed.
# In σ: perturbation of the latents that the surrogate is fitted on, so that it learns the decoder's response.
NOISE = 0.1


class Learned:
    """Properties of one decoder, measured on targets (1, 3, H, W); each is computed when it is first used."""

    def __init__(self, autoencoder: Autoencoder, targets: Sequence[torch.Tensor]):
        self.autoencoder = autoencoder
        self.targets = list(targets)

    @cached_property
    def latents(self) -> list[torch.Tensor]:
        """The encoder's latents of the targets, (1, C, h, w) each."""
        return [self.autoencoder.encode(target) for target in self.targets]

    @cached_property
    def channel_rates(self) -> torch.Tensor:
        """Learning rate per channel, (1, C, 1, 1), of root mean square 1: the reciprocal root mean square of the loss's
        gradient in each channel.
        """
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
        """Gauss-Newton curvature JᵀJ of the decoder as a block-circulant matrix, (h, w, C, C), complex: one block per
        frequency.
        """
        return curvature(self.autoencoder, self.latents, PROBES, torch.Generator().manual_seed(0))

    def whitener(self, damping: float, side: int = 11) -> Filter:
        """Return (JᵀJ / mean + damping)^(-1/2) as a convolution, scaled to preserve the root mean square of white
        noise.
        """
        return self._convolution(whiten(self.curvature, damping, side))

    def inverse(self, damping: float, side: int = 11) -> Filter:
        """Return (JᵀJ + damping · mean)^(-1) as a convolution."""
        mean = self.curvature.diagonal(dim1=-2, dim2=-1).real.mean()
        return self._convolution(power_filter(self.curvature, -1.0, damping, side) / mean)

    def _convolution(self, kernel: torch.Tensor) -> Filter:
        kernel = kernel.to(self.autoencoder.device)
        return lambda latents: F.conv2d(latents, kernel, padding="same")

    @cached_property
    def surrogate(self) -> torch.Tensor:
        """Linear surrogate of the decoder, (3f², C, 3, 3), from 3×3 latent cells to the f×f pixels of the central cell.

        It is fitted by least squares on decoded photographs.
        """
        generator = torch.Generator().manual_seed(0)
        left, right = [], []
        for latents in self.latents:
            noise = torch.randn(latents.shape, generator=generator).to(latents) * NOISE * latents.std()
            for moved in (latents, latents + noise):
                with torch.no_grad():
                    picture = self.autoencoder.decode(moved)
                cell = picture.shape[-1] // moved.shape[-1]
                patches = F.unfold(moved, 3, padding=1)[0].T  # (cells, 9C)
                # The constant term is fitted, but not kept.
                left.append(torch.cat([patches, torch.ones_like(patches[:, :1])], 1))
                right.append(F.pixel_unshuffle(picture, cell)[0].flatten(1).T)
        equations, pixels = torch.cat(left).double(), torch.cat(right).double()
        normal = equations.T @ equations
        ridge = 1e-3 * normal.diagonal().mean() * torch.eye(len(normal), dtype=normal.dtype, device=normal.device)
        solution = torch.linalg.solve(normal + ridge, equations.T @ pixels)[:-1].float()
        return solution.T.reshape(pixels.shape[1], -1, 3, 3).contiguous()
