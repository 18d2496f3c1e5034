"""The relaxations of rounding by name. A new one is one function and one line in `RELAXATIONS`."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from .sigmoid_scaled_logit import sigmoid_scaled_logit
from .stochastic_gumbel import stochastic_gumbel
from .straight_through import straight_through

Noise = Callable[[Tensor], Tensor]  # latents (B, ...) -> as many numbers, uniform in (0, 1)


class Relaxation(NamedTuple):
    """What stands for rounding.

    sample: takes latents (B, ...), the temperature of each picture (B,), which is above 0, and a source of noise, and returns
    what stands for the integers, of the latents' shape and differentiable in them. ceiling: its usual highest temperature.
    """

    sample: Callable[[Tensor, Tensor, Noise], Tensor]
    ceiling: float


RELAXATIONS = {
    "ssl": Relaxation(sigmoid_scaled_logit, 1.0),
    "sga": Relaxation(stochastic_gumbel, 0.5),
    "ste": Relaxation(straight_through, 0.5),
}
