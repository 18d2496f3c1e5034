"""The temperature of a relaxation at each iteration."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Annealing:
    """min(ceiling, exp(−rate · (p − start))) at the fraction p of the steps, and 0 in the last ones."""

    steps: int
    ceiling: float
    rate: float
    start: float
    tail: float  # fraction of the steps at the end that have temperature 0

    def temperature(self, step: Tensor) -> Tensor:
        """(B,) iterations done -> (B,) fp32; 0 stands for rounding itself."""
        progress = step.to(torch.float32) / self.steps
        value = torch.exp(-self.rate * (progress - self.start)).clamp_max(self.ceiling)
        return torch.where(progress >= 1.0 - self.tail, torch.zeros_like(value), value)
