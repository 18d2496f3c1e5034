"""`relatent codec ablation`: the inter-scale penalty's δ and distance, each trained by itself, beside no penalty."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ....engine.errors import UsageError
from ....engine.runtime.atomic import write_json
from ..inter_scale import DISTANCES
from .options import settings_of
from .settings import TrainingSettings
from .trainer import Trainer

DELTAS = (0.05, 0.1, 0.15)  # at the distance of the options
RESULT = "ablation.json"
COLUMNS = ("test/loss", "test/bpp_loss", "test/psnr")


def variants(settings: TrainingSettings) -> Iterator[tuple[str, TrainingSettings]]:
    """Yield name and settings of each run; every one has a folder of its own below `save_path`."""

    def named(name: str, **changes: Any) -> tuple[str, TrainingSettings]:
        return name, replace(settings, save_path=str(Path(settings.save_path) / name), log_dir=None, **changes)

    yield named("no_penalty", phase2_reg=False)
    for delta in DELTAS:
        yield named(f"delta{delta}", phase2_reg=True, delta=delta)
    for distance in DISTANCES:
        if distance != settings.distance:
            yield named(distance, phase2_reg=True, distance=distance)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train all variants one after the other; a finished one is not trained again. Returns each one's test, by its name.

    Raises `UsageError` without a test dataset, on which they are compared.
    """
    settings = settings_of(options)
    if settings.test_dataset is None:
        raise UsageError("ablation: the runs are compared on --test_dataset; give one")
    if settings.epochs <= settings.penalty_start:
        raise UsageError(
            f"ablation: the penalty begins at epoch {settings.penalty_start}, and there are {settings.epochs}; "
            "give more --epochs or an earlier --phase2-start"
        )
    results: dict[str, Any] = {}
    for name, each in variants(settings):

        def progress(line: str, name: str = name) -> None:
            print(f"{name}: {line}", file=sys.stderr, flush=True)

        trainer = Trainer(each, options.num_workers, options.log_every, options.save_every, options.wandb, progress)
        results[name] = trainer.run()
        write_json(Path(settings.save_path) / RESULT, results)
    return results


def table(results: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a Markdown table, a row for each variant."""
    yield "| variant | test loss | bpp | PSNR (dB) |"
    yield "| --- | --- | --- | --- |"
    for name, result in results.items():
        loss, bpp, psnr = (result[column] for column in COLUMNS)
        yield f"| {name} | {loss:.4f} | {bpp:.4f} | {psnr:.2f} |"
