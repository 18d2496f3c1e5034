"""relatent: inference-time latent optimisation of frozen decoders, and the datasets that come of it.

The names below are imported when they are first used, so that `import relatent` costs nothing and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .engine.version import VERSION as __version__

_HOMES = {
    "Autoencoder": "engine.autoencoder",
    "LatentOptimizer": "engine.optimizer",
    "OptimizationConfig": "engine.config",
    "OptimizationResult": "engine.optimizer",
    "OptimizedLatentDataset": "exporters.reader",
    "PRESETS": "engine.presets",
    "RelatentError": "engine.errors",
    "encode": "engine.encode",
    "load_autoencoder": "engine.load",
    "load_optimized_dataset": "exporters.reader",
    "optimize_bsds500_full": "exporters.bsds500",
    "optimize_bsds500_test": "exporters.bsds500",
    "optimize_directory": "exporters.directory",
    "preset": "engine.presets",
    "resume_directory": "exporters.directory",
    "verify_run": "exporters.verify",
    "write_report": "exporters.report",
}

__all__ = [*_HOMES, "__version__"]

if TYPE_CHECKING:
    from .engine.autoencoder import Autoencoder
    from .engine.config import OptimizationConfig
    from .engine.encode import encode
    from .engine.errors import RelatentError
    from .engine.load import load_autoencoder
    from .engine.optimizer import LatentOptimizer, OptimizationResult
    from .engine.presets import PRESETS, preset
    from .exporters.bsds500 import optimize_bsds500_full, optimize_bsds500_test
    from .exporters.directory import optimize_directory, resume_directory
    from .exporters.reader import OptimizedLatentDataset, load_optimized_dataset
    from .exporters.report import write_report
    from .exporters.verify import verify_run


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'relatent' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
