"""How a latent becomes an integer while the network is trained, refined or used. Each takes and returns the same shape."""

from collections.abc import Callable

import torch
from torch import Tensor

Quantiser = Callable[[Tensor], Tensor]


def additive_noise(x: Tensor) -> Tensor:
    """x + uniform noise in [-0.5, 0.5): the differentiable stand-in of rounding (Ballé et al., 2017, equation 9)."""
    return x + torch.rand_like(x) - 0.5


def hard_round(x: Tensor) -> Tensor:
    """The nearest integer, halves upwards, as the coder rounds; no gradient."""
    return torch.floor(x + 0.5)


def straight_through(x: Tensor) -> Tensor:
    """hard_round forward, the identity backward."""
    return x + (hard_round(x) - x).detach()
