"""The engine's loop compared with the original one: same photographs, decoder and machine, gain in dB and seconds.

    python -m relatent.benchmarks.bench_loop [--images FOLDER] [--size 256] [--limit 4] [--taef2 FOLDER]

Without --images it uses scikit-image's photographs, which the bundled autoencoder was trained on: then only the ratios
are meaningful. Writes benchmarks/results/loop-*.json and the table in docs/quality.md.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..engine.autoencoders.autoencoder import Autoencoder
from ..engine.autoencoders.loading import load_autoencoder
from ..engine.inputs.images import load_image
from ..engine.inputs.sample_photographs import photographs
from ..engine.inputs.sources import discover
from ..engine.losses.metrics import psnr
from ..engine.optimization.config import OptimizationConfig
from ..engine.optimization.optimizer import LatentOptimizer
from ..engine.optimization.presets import preset
from ..engine.runtime.device import resolve_precision
from .peers import ORIGINAL, original_loop, run_original
from .results import command_line, replace_table, run_main, write_result

PAGE = Path(__file__).parent.parent / "docs" / "quality.md"

Method = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def load_targets(folder: Path | None, size: int, limit: int, device: torch.device) -> list[torch.Tensor]:
    """Return photographs as (1, 3, size, size) targets in [-1, 1], from `folder`, or scikit-image's where it is None."""
    paths = photographs() if folder is None else [Path(source.path) for source in discover(folder)]
    return [load_image(path, size).tensor().to(device) for path in paths[:limit]]


def load_decoders(taef2: Path | None, device: str) -> dict[str, Autoencoder]:
    """Return `tiny`, and `taef2` where the folder with its weights is given."""
    decoders = {"tiny": load_autoencoder("tiny", device=device)}
    if taef2:
        decoders["taef2"] = load_autoencoder("taef2", weights=taef2, device=device)
    return decoders


def photograph_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose photographs of BSDS500."""
    parser.add_argument("--bsds500", type=Path, help="folder with train/, val/ and test/ (default: $BSDS500_PATH)")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--limit", type=int, default=8, help="photographs")


def methods(autoencoder: Autoencoder) -> dict[str, tuple[int, Method]]:
    """Return name -> (iterations, function of (start, target) that returns the final latents)."""
    found: dict[str, tuple[int, Method]] = {}
    for name, (relative, iterations) in ORIGINAL.items():
        found[name] = iterations, partial(run_original, autoencoder.decode, relative=relative, iterations=iterations)
    config = preset("original", iterations=50, betas=(0.8, 0.95))  # The methods that follow use equal settings.
    rate, steps = config.relative_learning_rate, config.iterations
    found["the original's loop, relatent's settings"] = (
        steps,
        partial(run_original, autoencoder.decode, relative=rate, iterations=steps, betas=config.betas),
    )
    precisions = ["fp32"]
    if resolve_precision("auto", autoencoder.device) == "bf16":
        precisions.append("bf16")
    for precision in precisions:
        optimizer = LatentOptimizer(replace(config, precision=precision))
        found[f"relatent, {precision}"] = steps, partial(_run_engine, autoencoder, optimizer)
    return found


def _run_engine(
    autoencoder: Autoencoder, optimizer: LatentOptimizer, start: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    return optimizer.optimize_batch(autoencoder, start, target, check_range=False)[0].optimized_latents


def measure(autoencoder: Autoencoder, targets: list[torch.Tensor]) -> list[dict[str, Any]]:
    """Return one row per method: mean start and gain (dB), and median seconds per image.

    On each photograph all methods run in turn. Exits with an error where the engine loses quality on an image.
    """
    compared = methods(autoencoder)
    before: list[float] = []
    gains: dict[str, list[float]] = {name: [] for name in compared}
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    start = autoencoder.encode(targets[0])
    # The first calls select algorithms and allocate memory.
    original_loop(autoencoder.decode, start, targets[0], 1e-6, 1)
    LatentOptimizer(OptimizationConfig(iterations=2)).optimize_batch(autoencoder, start, targets[0], check_range=False)
    for target in targets:
        start = autoencoder.encode(target)
        before.append(decoded_psnr(autoencoder, start, target))
        for name, (_, method) in compared.items():
            begin = time.perf_counter()
            latents = method(start, target)
            seconds[name].append(time.perf_counter() - begin)
            gains[name].append(decoded_psnr(autoencoder, latents, target) - before[-1])
            if name.startswith("relatent") and gains[name][-1] < 0:
                raise SystemExit(f"{name} lost quality on a picture: gains {gains[name]}")
    return [_row(name, compared[name][0], before, gains[name], seconds[name]) for name in compared]


@torch.no_grad()
def decoded_psnr(autoencoder: Autoencoder, latents: torch.Tensor, target: torch.Tensor) -> float:
    """Return the PSNR in dB of one image, decoded in fp32 and clamped."""
    return psnr(autoencoder.decode(latents), target).item()


def _row(name: str, iterations: int, before: list[float], gains: list[float], seconds: list[float]) -> dict[str, Any]:
    return {
        "method": name,
        "iterations": iterations,
        "start_db": round(statistics.mean(before), 2),
        "gain_db": round(statistics.mean(gains), 2),
        "least_gain_db": round(min(gains), 2),
        "seconds_per_image": round(statistics.median(seconds), 2),
        "seconds_per_db": round(statistics.mean(seconds) / max(statistics.mean(gains), 1e-9), 2),
    }


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| decoder | method | iterations | start | gain | s / image | s / dB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for decoder, rows in results.items():
        lines += [
            f"| {decoder} | {row['method']} | {row['iterations']} | {row['start_db']:.2f} dB | {row['gain_db']:+.2f} dB "
            f"| {row['seconds_per_image']:.1f} | {row['seconds_per_db']:.1f} |"
            for row in rows
        ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of photographs (default: scikit-image's)")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--limit", type=int, default=4, help="photographs")
    parser.add_argument("--taef2", type=Path, help="folder with TAEF2's weights, to measure on it too")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    decoders = load_decoders(options.taef2, options.device)
    device = decoders["tiny"].device
    targets = load_targets(options.images, options.size, options.limit, device)
    config = preset("original")
    results = {name: measure(autoencoder, targets) for name, autoencoder in decoders.items()}
    print(table(results))
    content = {"size": options.size, "images": len(targets), "config": config.to_dict(), "results": results}
    print(write_result("loop", device, command_line("bench_loop"), content), file=sys.stderr)
    replace_table("loop", table(results), PAGE)
    return 0


if __name__ == "__main__":
    run_main(main)
