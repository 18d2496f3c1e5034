"""Helpers for BSDS500, the dataset this project began with; they read its location from $BSDS500_PATH."""

import dataclasses
from pathlib import Path
from typing import Any

from ..engine.inputs.sources import bsds500_folder
from ..engine.optimization.config import OptimizationConfig
from ..engine.optimization.presets import preset
from .api import optimize_directory


def optimize_bsds500_test(
    output_path: str | Path = "test_dataset",
    max_images: int = 5,
    create_pytorch: bool = True,
    create_png: bool = True,
    *,
    vae: Any = "sd15",
    **options: Any,
) -> dict[str, Path]:
    """Optimise at most `max_images` pictures of each split of BSDS500, as a trial run.

    options: fields of `OptimizationConfig` (iterations, learning_rate, loss_function, …) and arguments of
    `optimize_directory` (size, device, weights, preset, …).
    Returns {"pytorch": path, "png": path}, with the formats that were requested. Raises `UsageError` if BSDS500_PATH is
    not set or its folder is empty.
    """
    return _optimize(output_path, create_pytorch, create_png, vae, {"limit": max_images, **options})


def optimize_bsds500_full(
    output_path: str | Path = "bsds500_optimized",
    iterations: int | None = None,
    learning_rate: float | None = None,
    create_pytorch: bool = True,
    create_png: bool = True,
    *,
    vae: Any = "sd15",
    **options: Any,
) -> dict[str, Path]:
    """Optimise all pictures of all splits of BSDS500; otherwise the same as `optimize_bsds500_test`.

    iterations, learning_rate: None leaves the setting at its default.
    """
    for name, value in (("iterations", iterations), ("learning_rate", learning_rate)):
        if value is not None:
            options[name] = value
    return _optimize(output_path, create_pytorch, create_png, vae, options)


def _optimize(
    output_path: str | Path, create_pytorch: bool, create_png: bool, vae: Any, options: dict[str, Any]
) -> dict[str, Path]:
    """Run `optimize_directory` on BSDS500, and return the paths of the requested formats."""
    fields = {field.name for field in dataclasses.fields(OptimizationConfig)}
    config = preset(options.get("preset"), **{key: options.pop(key) for key in sorted(fields & options.keys())})
    formats = ["hdf5"] + ["pt"] * create_pytorch + ["png"] * create_png
    run = optimize_directory(bsds500_folder(), output_path, vae, config=config, formats=formats, **options)
    keys = {"pt": "pytorch", "png": "png"}
    return {keys[name]: Path(path) for name, path in run["outputs"].items() if name in keys}
