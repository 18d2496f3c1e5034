"""Named settings: how much work to spend per picture. `benchmarks/research/quality.py` measures each one's point on the curve."""

from typing import Any

from ..errors import UsageError
from .config import OptimizationConfig

PRESETS: dict[str, dict[str, Any]] = {
    "draft": {"iterations": 1, "refinement_iterations": 0},
    "fast": {"iterations": 3, "refinement_iterations": 0},
    "balanced": {},  # the defaults of `OptimizationConfig`
    "train": {"regularisers": "0.1*prior"},  # latents to train a model on; see docs/latents_for_training.md
    "best": {
        "iterations": 140, "relative_learning_rate": 0.15, "betas": (0.9, 0.95), "precision": "fp32",
        "convergence_threshold": 0.0, "gradient_error": 0.0,
    },
    # the settings of Generative Latent Optimization, lr 0.4 on Stable Diffusion's latents of spread 5.5: torch's Adam
    "original": {
        "iterations": 150, "relative_learning_rate": 0.073, "betas": (0.9, 0.999), "convergence_threshold": 0.0,
        "precision": "fp32", "gradient_error": 0.0, "schedule": "constant", "precondition": False, "beta_rise": 0, "relative_eps": 0.0,
        "warm_start": 0,
    },
}  # fmt: skip


def preset(name: str | None, /, **overrides: Any) -> OptimizationConfig:
    """Return the configuration of a preset, with `overrides`; of None, the defaults. Raises `UsageError` for a name or a
    field that does not exist."""
    if name is not None and name not in PRESETS:
        raise UsageError(f"preset: expected one of {', '.join(PRESETS)}, found {name!r}")
    return OptimizationConfig.from_dict((PRESETS[name] if name else {}) | overrides)


def resolve_config(config: OptimizationConfig | str | None) -> OptimizationConfig:
    """Return a configuration as it is, a preset for its name, and the defaults for None. Raises `UsageError` for anything else."""
    if isinstance(config, OptimizationConfig):
        return config
    if config is not None and not isinstance(config, str):
        raise UsageError(f"config: expected an OptimizationConfig or a preset's name, found {type(config).__name__}")
    return preset(config)
