"""Stochastic Gumbel annealing (Yang, Bamler, Mandt: "Improving Inference for Neural Image Compression", NeurIPS 2020).

A value v is rounded down or up at random, with logits −atanh(v − ⌊v⌋) / τ and −atanh(⌈v⌉ − v) / τ, and the choice is relaxed
to a Gumbel-softmax sample of the same temperature τ. Of two classes that sample is the sigmoid of (the difference of the
logits + logistic noise) / τ, since the difference of two Gumbel variables is logistic.
"""

from collections.abc import Callable

import torch
from torch import Tensor

LEAST_DISTANCE = 1e-5  # of an atanh's argument from 1


def stochastic_gumbel(x: Tensor, temperature: Tensor, noise: Callable[[Tensor], Tensor]) -> Tensor:
    """⌊x⌋ plus a sample in [0, 1] of whether it is rounded up."""
    tau = temperature.view(-1, *[1] * (x.ndim - 1))
    low = torch.floor(x)
    above = x - low
    limit = 1.0 - LEAST_DISTANCE
    logit = (torch.atanh(above.clamp_max(limit)) - torch.atanh((1.0 - above).clamp_max(limit))) / tau
    return low + torch.sigmoid((logit + torch.logit(noise(x))) / tau)
