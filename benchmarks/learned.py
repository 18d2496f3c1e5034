"""What a method may know of a decoder beforehand, gathered once from photographs that are not measured."""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F

from ..engine.autoencoder import Autoencoder

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
        """(h, w, C, C) complex: the decoder's JᵀJ as if it were the same everywhere, for each frequency.

        The cross-spectrum between channels of Jᵀv for white noise v, whose covariance is JᵀJ, over `PROBES` draws.
        """
        generator = torch.Generator().manual_seed(0)
        spectra = []
        for latents in self.latents:
            latents = latents.clone().requires_grad_(True)
            picture = self.autoencoder.decode(latents)
            for _ in range(PROBES):
                noise = torch.randn(picture.shape, generator=generator).to(picture)
                (pulled,) = torch.autograd.grad(picture, latents, noise, retain_graph=True)
                waves = torch.fft.fft2(pulled[0], norm="ortho").permute(1, 2, 0)
                spectra.append(waves.unsqueeze(-1) * waves.conj().unsqueeze(-2))
        spectrum = torch.stack(spectra).mean(0)
        mirrored = torch.flip(torch.roll(spectrum, (-1, -1), (0, 1)), (0, 1)).conj()  # a real filter's other half
        return (spectrum + mirrored) / 2

    def whitener(self, damping: float, side: int = 11) -> Filter:
        """(JᵀJ / mean + damping)^(-1/2), which keeps the root mean square of white noise, as a convolution."""
        kernel = self._kernel(damping, -0.5, side)
        return _convolution(kernel / kernel.square().sum((1, 2, 3)).mean().sqrt())

    def inverse(self, damping: float, side: int = 11) -> Filter:
        """(JᵀJ + damping · mean)^(-1), as a convolution."""
        return _convolution(self._kernel(damping, -1.0, side) / self._mean_curvature)

    @property
    def _mean_curvature(self) -> torch.Tensor:
        return self.curvature.diagonal(dim1=-2, dim2=-1).real.mean()

    def _kernel(self, damping: float, power: float, side: int) -> torch.Tensor:
        """(C, C, side, side): (curvature / mean + damping)^power; side: at most the latents' own, made odd."""
        values, vectors = torch.linalg.eigh(self.curvature / self._mean_curvature)
        scaled = vectors * (values.clamp_min(0) + damping).pow(power).unsqueeze(-2)
        response = torch.fft.ifft2(scaled @ vectors.mH, dim=(0, 1)).real  # (h, w, C, C)
        side = min(side, *(length - 1 + length % 2 for length in response.shape[:2]))
        around = torch.roll(response, (side // 2, side // 2), (0, 1))[:side, :side]
        return around.permute(2, 3, 0, 1).flip(-1, -2).contiguous()

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


def _convolution(kernel: torch.Tensor) -> Filter:
    def apply(latents: torch.Tensor) -> torch.Tensor:
        return F.conv2d(latents, kernel, padding=kernel.shape[-1] // 2)

    return apply
