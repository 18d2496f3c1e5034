"""Annealing with the sigmoid scaled logit (Perugachi-Diaz, Gansekoele, Bhulai, arXiv 2401.17789).

As stochastic Gumbel annealing, with other probabilities: log P(up) is log σ(a σ⁻¹(v − ⌊v⌋)) / τ before normalisation, with the
sigmoid σ, and P(down) its mirror image, so the two logits differ by a σ⁻¹(v − ⌊v⌋) / τ. Values near an integer are seldom
rounded away from it, while those near the middle have a gradient from the first step on.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .gumbel_softmax import rounded_at_random

SLOPE = 2.0  # a
LEAST_DISTANCE = 1e-5  # from an integer


def sigmoid_scaled_logit(x: Tensor, temperature: Tensor, noise: Callable[[Tensor], Tensor]) -> Tensor:
    """⌊x⌋ plus a sample in [0, 1] of whether it is rounded up."""
    low = torch.floor(x)
    logit = SLOPE * torch.logit((x - low).clamp(LEAST_DISTANCE, 1.0 - LEAST_DISTANCE))
    return rounded_at_random(low, logit, temperature, noise)
