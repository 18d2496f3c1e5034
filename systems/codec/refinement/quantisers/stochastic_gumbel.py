"""Stochastic Gumbel annealing (Yang, Bamler, Mandt: "Improving Inference for Neural Image Compression", NeurIPS 2020).

A value v is rounded down or up at random, with logits −atanh(v − ⌊v⌋) / τ and −atanh(⌈v⌉ − v) / τ, and the choice is relaxed.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .gumbel_softmax import rounded_at_random

LEAST_DISTANCE = 1e-5  # of an atanh's argument from 1


def stochastic_gumbel(x: Tensor, temperature: Tensor, noise: Callable[[Tensor], Tensor]) -> Tensor:
    """⌊x⌋ plus a sample in [0, 1] of whether it is rounded up."""
    low = torch.floor(x)
    above, limit = x - low, 1.0 - LEAST_DISTANCE
    logit = torch.atanh(above.clamp_max(limit)) - torch.atanh((1.0 - above).clamp_max(limit))
    return rounded_at_random(low, logit, temperature, noise)
