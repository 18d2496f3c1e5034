"""Named settings: how much work to spend per picture. `benchmarks/quality.py` measures each one's point on the curve."""

from typing import Any

from .config import OptimizationConfig
from .errors import UsageError

PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"iterations": 5},
    "balanced": {},  # the defaults of `OptimizationConfig`
    "best": {"iterations": 150},
    # the settings of Generative Latent Optimization, lr 0.4 on Stable Diffusion's latents of spread 5.5
    "original": {
        "iterations": 150, "relative_learning_rate": 0.073, "betas": (0.9, 0.999), "convergence_threshold": 0.0,
        "precision": "fp32",
    },
}  # fmt: skip


def preset(name: str, **overrides: Any) -> OptimizationConfig:
    """The configuration of a preset, `overrides` winning. Raises `UsageError` for a name that does not exist."""
    if name not in PRESETS:
        raise UsageError(f"preset: expected one of {', '.join(PRESETS)}, found {name!r}")
    return OptimizationConfig(**(PRESETS[name] | overrides))
