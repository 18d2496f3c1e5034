"""The settings of a restoration: the engine's own, the prior and its weight."""

from dataclasses import dataclass, field
from typing import Any

from ....engine.errors import UsageError
from ....engine.optimization.config import OptimizationConfig

# What all presets share: 3-D latents have no whitening and no low-rank gradients, and the encoder's own correction of the
# warm start is no restoration. A robust loss lets an anomaly stay unexplained.
SHARED: dict[str, Any] = {"loss_function": "l1", "precondition": False, "gradient_error": 0.0, "warm_start": 0}
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"iterations": 10},
    "balanced": {"iterations": 40},
    "best": {"iterations": 150, "convergence_threshold": 0.0},
}


def restoration_config(preset: str = "balanced", **overrides: Any) -> OptimizationConfig:
    """The engine's settings of a preset, with `overrides`. Raises `UsageError` for a name or a field that does not exist."""
    if preset not in PRESETS:
        raise UsageError(f"preset: expected one of {', '.join(PRESETS)}, found {preset!r}")
    return OptimizationConfig.from_dict(SHARED | PRESETS[preset] | overrides)


# λ by prior, best on procedural vertebrae that no figure is reported of
WEIGHTS = {"nearest-code": 0.03, "mixture": 0.01, "code-prior": 0.006}


@dataclass(frozen=True)
class RestorationSettings:
    """prior: a name in `priors/registry.py`, or none. weight: λ of data term + λ × prior; None: that of `WEIGHTS`."""

    prior: str = "code-prior"
    weight: float | None = None
    batch_size: int = 4  # volumes in the loop at once
    optimization: OptimizationConfig = field(default_factory=restoration_config)

    def __post_init__(self) -> None:
        if self.weight is None:
            object.__setattr__(self, "weight", WEIGHTS.get(self.prior, 0.0))
        if not 0 <= (self.weight or 0.0) < float("inf"):
            raise UsageError(f"weight: expected a finite number from 0 on, found {self.weight}")
        if self.batch_size < 1:
            raise UsageError(f"batch_size: expected a whole number from 1 on, found {self.batch_size}")
        if self.optimization.precondition or self.optimization.gradient_error:
            raise UsageError("volumes have no whitened coordinates and no low-rank gradients: turn both off")
