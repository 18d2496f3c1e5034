"""The relaxations of rounding by name. A new one is one function and one line in `RELAXATIONS`.

Each takes latents (B, ...), the temperature of each picture (B,), which is above 0, and a source of noise, and returns what
stands for the integers, of the latents' shape and differentiable in them.
"""

from collections.abc import Callable

from torch import Tensor

from .stochastic_gumbel import stochastic_gumbel
from .straight_through import straight_through

Noise = Callable[[Tensor], Tensor]  # latents (B, ...) -> as many numbers, uniform in (0, 1)
Relaxation = Callable[[Tensor, Tensor, Noise], Tensor]

RELAXATIONS: dict[str, Relaxation] = {"sga": stochastic_gumbel, "ste": straight_through}
