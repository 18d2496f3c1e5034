"""Bits that a latent costs, as the network estimates them."""

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST_PROBABILITY = 2.0**-24  # what the coder's tables give to what is next to impossible


def bits_of(probability: Tensor) -> Tensor:
    """(B, ...) probabilities to (B,) bits."""
    return -torch.log2(probability.clamp_min(LEAST_PROBABILITY)).flatten(1).sum(1)


def gaussian_probability(residual: Tensor, sigma: Tensor) -> Tensor:
    """The mass of N(0, σ²) within half a unit of the residual; any shape, σ > 0. Accurate in both tails."""
    distance = residual.abs()
    return torch.special.ndtr((0.5 - distance) / sigma) - torch.special.ndtr((-0.5 - distance) / sigma)


class MixturePrior(nn.Module):
    """z's distribution: for each channel a mixture of Gaussians, the same at all positions."""

    def __init__(self, channels: int, components: int = 3) -> None:
        super().__init__()
        spread = torch.linspace(-1.0, 1.0, components)
        self.logits = nn.Parameter(torch.zeros(channels, components))
        self.means = nn.Parameter(spread.repeat(channels, 1))
        self.log_scales = nn.Parameter(torch.zeros(channels, components))

    def probability(self, z: Tensor) -> Tensor:
        """(B, channels, h, w) -> the same shape: the mass within half a unit of each value."""
        shape = (1, -1, 1, 1)
        total = torch.zeros_like(z)
        weights = functional.softmax(self.logits, dim=1)
        scales = self.log_scales.clamp(-4.0, 8.0).exp()
        for k in range(self.logits.shape[1]):
            mass = gaussian_probability(z - self.means[:, k].view(shape), scales[:, k].view(shape))
            total = total + weights[:, k].view(shape) * mass
        return total
