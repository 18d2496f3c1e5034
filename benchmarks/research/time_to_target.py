"""Time to target: seconds per image until a gain is reached, in the original's loop and in the engine.

    python -m relatent.benchmarks.research.time_to_target --bsds500 FOLDER [--split test] [--size 256] [--limit 8] [--taef2 FOLDER]
        [--target-gain 4.29]

4.29 dB is what the original reports for its default setting. Its loop has no stopping criterion except the number of
iterations; here it stops, at no cost, as soon as its own loss, which it reads in every iteration anyway, shows the
gain. All methods run in turn on each photograph; the gain reached is measured in fp32, in PSNR of the clamped image.
With --taef2 only that decoder is measured: few images gain so much on the bundled one. Writes
benchmarks/results/time_to_target-*.json and the README's table.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.autoencoders.loading import load_autoencoder
from ...engine.inputs.sources import bsds500_folder
from ...engine.optimization.config import OptimizationConfig
from ...engine.optimization.optimizer import LatentOptimizer
from ..bench_loop import decoded_psnr, load_targets, photograph_options
from ..peers import ORIGINAL, run_original
from ..results import FOLDER, command_line, replace_table, run_main, write_result
from ..timing import now

ITERATION_LIMIT = 200  # Limit on the iterations of every method.
# In dB: a gain this far below the target still counts as reached, since the original's loss is of the unclamped image.
TOLERANCE = 0.1

Method = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (start, target) -> latents


def compared_methods(autoencoder: Autoencoder, gain: float) -> dict[str, Method]:
    """Return name -> method."""
    found: dict[str, Method] = {
        name: partial(run_original, autoencoder.decode, relative=rate, iterations=ITERATION_LIMIT, gain=gain)
        for name, (rate, _) in reversed(ORIGINAL.items())
    }
    optimizer = LatentOptimizer(OptimizationConfig(target_gain=gain, iterations=ITERATION_LIMIT))
    return found | {"relatent": partial(_run_engine, autoencoder, optimizer)}


def _run_engine(
    autoencoder: Autoencoder, optimizer: LatentOptimizer, start: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    return optimizer.optimize_batch(autoencoder, start, target, check_range=False)[0].optimized_latents


def measure(autoencoder: Autoencoder, targets: Sequence[torch.Tensor], gain: float) -> list[dict[str, Any]]:
    """Return one row per method: mean, median and longest seconds, number of images that reached the gain, mean and
    least gain.
    """
    methods = compared_methods(autoencoder, gain)
    for method in methods.values():  # The first calls compile, select algorithms and allocate memory.
        method(autoencoder.encode(targets[0]), targets[0])
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    gains: dict[str, list[float]] = {name: [] for name in methods}
    for target in targets:
        start = autoencoder.encode(target)
        before = decoded_psnr(autoencoder, start, target)
        for name, method in methods.items():
            begin = now(target.device)
            latents = method(start, target)
            seconds[name].append(now(target.device) - begin)
            gains[name].append(decoded_psnr(autoencoder, latents, target) - before)
    return [
        {
            "method": name,
            "reached": sum(each >= gain - TOLERANCE for each in gains[name]),
            "images": len(targets),
            "mean_seconds": round(statistics.mean(seconds[name]), 3),
            "median_seconds": round(statistics.median(seconds[name]), 3),
            "most_seconds": round(max(seconds[name]), 3),
            "gain_db": round(statistics.mean(gains[name]), 2),
            "least_db": round(min(gains[name]), 2),
        }
        for name in methods
    ]


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the rows as a Markdown table, with the ratio of each method's mean seconds to the engine's."""
    lines = ["| decoder | method | reached | gain, least | s / image, mean | relatent is faster |", "| --- " * 6 + "|"]
    for decoder, rows in results.items():
        engine_seconds = next(row for row in rows if row["method"] == "relatent")["mean_seconds"]
        for row in rows:
            faster = "" if row["method"] == "relatent" else f"{row['mean_seconds'] / engine_seconds:.1f} ×"
            lines.append(
                f"| {decoder} | {row['method']} | {row['reached']} of {row['images']} | {row['gain_db']:+.2f} dB, "
                f"{row['least_db']:+.2f} dB | {row['mean_seconds']:.2f} | {faster} |"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    photograph_options(parser)
    parser.add_argument("--taef2", type=Path, help="folder with TAEF2's weights (default: the bundled decoder)")
    parser.add_argument("--target-gain", type=float, default=4.29, help="dB")
    parser.add_argument("--out", type=Path, help="for trials: write there, and leave the README as it is")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    name = "taef2" if options.taef2 else "tiny"
    autoencoder = load_autoencoder(name, weights=options.taef2, device=options.device)
    folder = bsds500_folder(options.bsds500) / options.split
    targets = load_targets(folder, options.size, options.limit, autoencoder.device)
    results = {name: measure(autoencoder, targets, options.target_gain)}
    print(table(results))
    command = command_line("research.time_to_target", arguments)
    content = {
        "split": options.split, "size": options.size, "images": len(targets), "target_gain": options.target_gain,
        "iteration_limit": ITERATION_LIMIT, "results": results,
    }  # fmt: skip
    print(write_result("time_to_target", autoencoder.device, command, content, options.out or FOLDER), file=sys.stderr)
    if options.out is None:
        replace_table("time_to_target", table(results))
    return 0


if __name__ == "__main__":
    run_main(main)
