"""Noise that depends on the seed and on a picture's own iteration alone: not on its slot, its batch or what ran before."""

import torch
from torch import Tensor

LEAST = 2.0**-25  # torch.rand gives multiples of 2⁻²⁴ in [0, 1)


class IterationNoise:
    """The numbers of one iteration: successive calls give further ones.

    step: (B,) int, the iterations done of each picture. Pictures at the same iteration get the same numbers: each is
    optimised on its own, so it does not matter.
    """

    def __init__(self, seed: int, step: Tensor) -> None:
        self.generators = [torch.Generator().manual_seed((seed << 24) + int(done)) for done in step.tolist()]

    def __call__(self, x: Tensor) -> Tensor:
        """Uniform in (0, 1), of the shape (B, ...), type and device of x."""
        rows = [torch.rand(x.shape[1:], generator=generator) for generator in self.generators]
        return torch.stack(rows).add_(LEAST).to(x)
