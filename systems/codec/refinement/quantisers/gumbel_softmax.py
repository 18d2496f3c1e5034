"""A relaxed random choice between rounding down and up."""

from collections.abc import Callable

import torch
from torch import Tensor


def rounded_at_random(low: Tensor, logit: Tensor, temperature: Tensor, noise: Callable[[Tensor], Tensor]) -> Tensor:
    """low plus a Gumbel-softmax sample in [0, 1] of whether it is rounded up; all (B, ...), temperature τ (B,).

    logit: log(P(up) / P(down)) at τ = 1; at τ it is divided by τ, and the sample has the same temperature. Of two classes that
    sample is the sigmoid of (logit / τ + logistic noise) / τ, since the difference of two Gumbel variables is logistic.
    """
    tau = temperature.view(-1, *[1] * (low.ndim - 1))
    return low + torch.sigmoid((logit / tau + torch.logit(noise(low))) / tau)
