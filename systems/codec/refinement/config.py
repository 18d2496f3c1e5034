"""The settings of a refinement."""

import math
from dataclasses import dataclass
from typing import Any

from ....engine.errors import UsageError
from ....engine.optimization.config import SCHEDULES
from .quantisers.registry import RELAXATIONS

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class RefinementConfig:
    """How latents are refined. A step costs one synthesis forward and one backward.

    Raises `UsageError` for what cannot be.
    """

    steps: int = 200
    quantiser: str = "ssl"  # what stands for rounding, a name in `RELAXATIONS`
    seed: int = 0
    learning_rate: float = 0.08  # Adam's, in units of y's rounding step
    hyper_rate: float = 0.5  # the learning rate of z as a multiple of that
    schedule: str = "cosine"  # of the learning rate over the steps: constant, cosine, linear or trapezoid
    betas: tuple[float, float] = (0.8, 0.95)  # Adam's decay rates
    relative_eps: float = 0.0  # Adam's ε in units of the RMS of the gradient
    # the temperature is min(ceiling, exp(−rate (p − start))) at the fraction p of the steps
    ceiling: float | None = None  # None: the quantiser's own
    rate: float = 2.0
    start: float = 0.35
    tail: float = 0.1  # the last fraction of the steps rounds, straight-through
    judge_interval: int = 10  # steps between two evaluations of the rounded latents
    # a picture is done when the cost of its rounded latents falls by less than this fraction over the window; 0: never, since
    # the cost may stand still while the temperature is high
    convergence_threshold: float = 0.0
    convergence_window: int = 50  # steps
    batch_size: int = 1  # pictures of one padded size at once
    precision: str = "auto"  # of the synthesis while optimising: fp32, bf16; auto: bf16 where the processor has it

    def __post_init__(self) -> None:
        for name in ("steps", "judge_interval", "convergence_window", "batch_size"):
            _check(name, _count(getattr(self, name)), "a whole number of at least 1", getattr(self, name))
        seed = isinstance(self.seed, int) and not isinstance(self.seed, bool) and 0 <= self.seed < 2**32
        _check("seed", seed, "a whole number from 0 to 2³² − 1", self.seed)
        for name, choices in (("quantiser", RELAXATIONS), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            _check(name, getattr(self, name) in choices, f"one of {', '.join(choices)}", getattr(self, name))
        ceiling = () if self.ceiling is None else ("ceiling",)
        for name in ("learning_rate", "hyper_rate", *ceiling):
            value = getattr(self, name)
            _check(name, _number(value) and value > 0, "a number above 0", value)
        for name in ("rate", "relative_eps"):
            value = getattr(self, name)
            _check(name, _number(value) and value >= 0, "a number of at least 0", value)
        for name in ("start", "tail", "convergence_threshold"):
            value = getattr(self, name)
            _check(name, _number(value) and 0 <= value <= 1, "a fraction from 0 to 1", value)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(name: str, holds: bool, expected: str, found: Any) -> None:
    if not holds:
        raise UsageError(f"{name}: expected {expected}, found {found!r}")
