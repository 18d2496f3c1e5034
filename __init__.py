"""relatent: inference-time latent optimisation of frozen decoders, and the datasets that come of it.

The names below are imported when they are first used, so that `import relatent` costs nothing and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .engine.version import VERSION as __version__

_HOMES = {
    "Autoencoder": "engine.autoencoders.autoencoder",
    "LatentOptimizer": "engine.optimization.optimizer",
    "OptimizationConfig": "engine.optimization.config",
    "OptimizationResult": "engine.optimization.optimizer",
    "OptimizedLatentDataset": "exporters.reader",
    "PRESETS": "engine.optimization.presets",
    "RelatentError": "engine.errors",
    "encode": "engine.optimization.encode",
    "keep_freed_memory": "engine.runtime.allocator",
    "load_autoencoder": "engine.autoencoders.loading",
    "load_optimized_dataset": "exporters.reader",
    "optimize_bsds500_full": "factory.bsds500",
    "optimize_bsds500_test": "factory.bsds500",
    "optimize_directory": "factory.api",
    "preset": "engine.optimization.presets",
    "resume_directory": "factory.api",
    "verify_run": "factory.verification.verify",
    "write_report": "factory.report",
}

__all__ = [*_HOMES, "__version__"]

if TYPE_CHECKING:
    from .engine.autoencoders.autoencoder import Autoencoder
    from .engine.autoencoders.loading import load_autoencoder
    from .engine.errors import RelatentError
    from .engine.optimization.config import OptimizationConfig
    from .engine.optimization.encode import encode
    from .engine.optimization.optimizer import LatentOptimizer, OptimizationResult
    from .engine.optimization.presets import PRESETS, preset
    from .engine.runtime.allocator import keep_freed_memory
    from .exporters.reader import OptimizedLatentDataset, load_optimized_dataset
    from .factory.api import optimize_directory, resume_directory
    from .factory.bsds500 import optimize_bsds500_full, optimize_bsds500_test
    from .factory.report import write_report
    from .factory.verification.verify import verify_run


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'relatent' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
