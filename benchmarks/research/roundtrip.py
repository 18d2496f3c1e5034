"""Loss of quality in an editing pipeline: PSNR after 1 to 10 passes through an autoencoder, with and without
optimisation.

    python -m relatent.benchmarks.research.roundtrip --images FOLDER [--size 256] [--limit 4] [--cycles 10] [--taef2 FOLDER]
        [--presets fast balanced best] [--picture docs/images/roundtrip.png]

A cycle encodes the image, optimises the latent (or not), decodes, and rounds to 8 bits; the next cycle starts from that
image. The target of each cycle is its own input, since a pipeline has nothing else; PSNR is against the original image.
Writes benchmarks/results/roundtrip-*.json, the README's table and, on request, a grid of image details.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.losses.metrics import from_uint8, psnr, to_uint8
from ...engine.optimization.optimizer import LatentOptimizer
from ...engine.optimization.presets import PRESETS, preset
from ..bench_loop import load_decoders, load_targets
from ..results import command_line, replace_table, run_main, write_result
from .comparison_grid import Row, comparison_grid

# (1, 3, H, W) in [-1, 1] -> the same, after one pass through the autoencoder.
Pass = Callable[[torch.Tensor], torch.Tensor]

ENCODER = "encoder alone"
SHOWN = (1, 2, 5, 10)  # Cycles shown in the table and in the grid, together with the last one.


def passes(autoencoder: Autoencoder, presets: Sequence[str]) -> dict[str, Pass]:
    """Return method -> function for one pass."""
    found: dict[str, Pass] = {ENCODER: partial(_encode_decode, autoencoder)}
    for name in presets:
        found[name] = partial(_optimise_decode, autoencoder, LatentOptimizer(preset(name)))
    return found


@torch.no_grad()
def _encode_decode(autoencoder: Autoencoder, picture: torch.Tensor) -> torch.Tensor:
    return autoencoder.decode(autoencoder.encode(picture))


def _optimise_decode(autoencoder: Autoencoder, optimizer: LatentOptimizer, picture: torch.Tensor) -> torch.Tensor:
    start = autoencoder.encode(picture)
    return optimizer.optimize_batch(autoencoder, start, picture, check_range=False)[0].optimized_image


def cycle(once: Pass, target: torch.Tensor, cycles: int) -> tuple[list[torch.Tensor], list[float]]:
    """Return the image after each cycle, (1, 3, H, W) uint8, and the seconds of each cycle."""
    pictures, seconds, current = [], [], target
    for _ in range(cycles):
        begin = time.perf_counter()
        pictures.append(to_uint8(once(current)).cpu())
        seconds.append(time.perf_counter() - begin)
        current = from_uint8(pictures[-1]).to(target.device)
    return pictures, seconds


def measure(
    autoencoder: Autoencoder, targets: list[torch.Tensor], cycles: int, presets: Sequence[str]
) -> tuple[list[dict[str, Any]], list[Row]]:
    """Return one row per method, and the first photograph's images for `comparison_grid`.

    psnr_db: mean over photographs after each cycle. lost_db: from the first cycle to the last. seconds_per_cycle:
    median. Exits with an error where optimising is worse than the encoder alone.
    """
    rows: list[dict[str, Any]] = []
    shown: list[Row] = []
    for name, once in passes(autoencoder, presets).items():
        quality, seconds = [], []
        for target in targets:
            pictures, cycle_seconds = cycle(once, target, cycles)
            quality.append([psnr(from_uint8(picture), target.cpu()).item() for picture in pictures])
            seconds += cycle_seconds
            if target is targets[0]:
                shown.append((name, [_pixels(picture) for picture in pictures], quality[0]))
        means = np.mean(quality, 0)
        rows.append(
            {
                "method": name,
                "psnr_db": [round(float(value), 2) for value in means],
                "lost_db": round(float(means[0] - means[-1]), 2),
                "seconds_per_cycle": round(statistics.median(seconds), 3),
            }
        )
        if any(optimised < plain - 0.05 for optimised, plain in zip(means, rows[0]["psnr_db"], strict=True)):
            raise SystemExit(f"{name} is worse than the encoder alone: {rows[-1]['psnr_db']}, {rows[0]['psnr_db']}")
    return rows, shown


def _pixels(picture: torch.Tensor) -> np.ndarray:
    return picture[0].permute(1, 2, 0).numpy()


def shown_cycles(cycles: int) -> list[int]:
    """Return the cycles of `SHOWN` that were run, and the last one."""
    return sorted({number for number in SHOWN if number < cycles} | {cycles})


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the rows as a Markdown table."""
    cycles = len(next(iter(results.values()))[0]["psnr_db"])
    numbers = shown_cycles(cycles)
    heads = " | ".join(f"cycle {number}" if number == numbers[0] else str(number) for number in numbers)
    lines = [f"| decoder | method | {heads} | lost, first to last | s / cycle |", "| --- " * (len(numbers) + 4) + "|"]
    for decoder, rows in results.items():
        for row in rows:
            cells = " | ".join(f"{row['psnr_db'][number - 1]:.2f} dB" for number in numbers)
            lines.append(
                f"| {decoder} | {row['method']} | {cells} | {row['lost_db']:.2f} dB | {row['seconds_per_cycle']:.2f} |"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of photographs (default: scikit-image's)")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--limit", type=int, default=4, help="photographs")
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--taef2", type=Path, help="folder with TAEF2's weights, to measure on it too")
    parser.add_argument("--presets", nargs="+", default=["fast", "balanced", "best"], choices=list(PRESETS))
    parser.add_argument(
        "--picture", type=Path, help="where to write a comparison grid of pictures, of the last decoder"
    )
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    if options.cycles < 1:
        parser.error(f"--cycles: expected at least 1, found {options.cycles}")
    decoders = load_decoders(options.taef2, options.device)
    device = decoders["tiny"].device
    targets = load_targets(options.images, options.size, options.limit, device)
    results: dict[str, list[dict[str, Any]]] = {}
    shown: list[Row] = []
    for name, autoencoder in decoders.items():
        results[name], shown = measure(autoencoder, targets, options.cycles, options.presets)
    print(table(results))
    if options.picture:
        comparison_grid(_pixels(to_uint8(targets[0]).cpu()), shown, shown_cycles(options.cycles)).save(
            options.picture, optimize=True
        )
    content = {
        "size": options.size,
        "images": len(targets),
        "cycles": options.cycles,
        "presets": {name: preset(name).to_dict() for name in options.presets},
        "results": results,
    }
    command = command_line("research.roundtrip", arguments)
    print(write_result("roundtrip", device, command, content), file=sys.stderr)
    replace_table("roundtrip", table(results))
    return 0


if __name__ == "__main__":
    run_main(main)
