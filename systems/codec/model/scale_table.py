"""The table of 64 Gaussian scales σ, and how a network's output chooses one.

The networks give a real level t; σ = SMALLEST · (LARGEST / SMALLEST) ** (t / 63). The coder rounds t to an integer, so it needs
no exponential and no search. The levels are 12 % apart, which costs at most 0.003 bit per symbol against a free σ.
"""

import math

import torch
from torch import Tensor

LEVELS = 64
SMALLEST = 0.11
LARGEST = 256.0
GAIN = 8.0  # a power of two: exact in fixed point
FIRST = 18.0  # the level of σ = 1, which an untrained network gives


def scales() -> list[float]:
    """The 64 values of σ, increasing."""
    return [SMALLEST * (LARGEST / SMALLEST) ** (level / (LEVELS - 1)) for level in range(LEVELS)]


class _Bounded(torch.autograd.Function):
    """Clamps; outside the bounds only gradients that lead back are passed on."""

    @staticmethod
    def forward(ctx, x: Tensor, lower: float, upper: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.bounds = lower, upper
        return x.clamp(lower, upper)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        lower, upper = ctx.bounds
        stuck = ((x < lower) & (gradient > 0)) | ((x > upper) & (gradient < 0))
        return gradient.masked_fill(stuck, 0.0), None, None


def levels_of(raw: Tensor) -> Tensor:
    """A network's output to levels in [0, 63], real numbers; any shape."""
    levels: Tensor = _Bounded.apply(raw * GAIN + FIRST, 0.0, float(LEVELS - 1))
    return levels


def sigma_of(levels: Tensor) -> Tensor:
    """Real levels to σ in [0.11, 256]; any shape."""
    step = math.log(LARGEST / SMALLEST) / (LEVELS - 1)
    return torch.exp(math.log(SMALLEST) + step * levels)
