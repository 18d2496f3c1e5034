"""The engine's loop beside the original's: same photographs, decoder and machine, decibels and seconds side by side.

    python -m relatent.benchmarks.bench_loop [--images FOLDER] [--size 256] [--limit 4] [--taef2 FOLDER]

Without --images it uses scikit-image's photographs, which the bundled autoencoder has seen in training: then only the
ratios count. Writes benchmarks/results/loop-*.json and the README's table.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ..cli import DEMO_PHOTOGRAPHS
from ..engine.autoencoder import Autoencoder
from ..engine.config import OptimizationConfig
from ..engine.discovery import discover
from ..engine.images import load_image
from ..engine.load import load_autoencoder
from ..engine.metrics import psnr
from ..engine.optimizer import LatentOptimizer
from .peers import ORIGINAL, original_loop
from .results import replace_table, write_result


def load_targets(folder: Path | None, size: int, limit: int, device: torch.device) -> list[torch.Tensor]:
    """Photographs as (1, 3, size, size) targets."""
    if folder is None:
        import skimage.data

        here = Path(skimage.data.__file__).parent
        paths = [here / name for name in DEMO_PHOTOGRAPHS[:limit]]
    else:
        paths = [source.path for source in discover(folder)][:limit]
    return [load_image(path, size).tensor().to(device) for path in paths]


def measure(autoencoder: Autoencoder, targets: list[torch.Tensor], config: OptimizationConfig) -> list[dict[str, Any]]:
    """One row per method: mean start, gain (dB) and median seconds per image. Raises where the engine loses an image."""
    starts = [autoencoder.encode(target) for target in targets]
    before = [psnr(autoencoder.decode(start), target).item() for start, target in zip(starts, targets, strict=True)]
    # warm-up: the first calls choose algorithms and allocate
    original_loop(autoencoder.decode, starts[0], targets[0], 1e-6, 1)
    rows = []
    for name, (relative, iterations) in ORIGINAL.items():
        gains, seconds = [], []
        for start, target, quality in zip(starts, targets, before, strict=True):
            begin = time.perf_counter()
            latents = original_loop(autoencoder.decode, start, target, relative * start.std().item(), iterations)
            seconds.append(time.perf_counter() - begin)
            with torch.no_grad():
                gains.append(psnr(autoencoder.decode(latents), target).item() - quality)
        rows.append(_row(name, iterations, before, gains, seconds))
    gains, seconds = [], []
    for start, target in zip(starts, targets, strict=True):
        begin = time.perf_counter()
        result = LatentOptimizer(config).optimize_batch(autoencoder, start, target, check_range=False)[0]
        seconds.append(time.perf_counter() - begin)
        gains.append(result.metrics["psnr_improvement"])
    if min(gains) < 0:
        raise SystemExit(f"the engine lost quality on a picture: gains {gains}")
    rows.append(_row("relatent, defaults", config.iterations, before, gains, seconds))
    return rows


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
    """The rows as Markdown."""
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
    decoders = {"tiny": load_autoencoder("tiny", device=options.device)}
    if options.taef2:
        decoders["taef2"] = load_autoencoder("taef2", weights=options.taef2, device=options.device)
    device = decoders["tiny"].device
    targets = load_targets(options.images, options.size, options.limit, device)
    config = OptimizationConfig()
    results = {name: measure(autoencoder, targets, config) for name, autoencoder in decoders.items()}
    print(table(results))
    content = {"size": options.size, "images": len(targets), "config": config.to_dict(), "results": results}
    command = "python -m relatent.benchmarks.bench_loop " + " ".join(
        Path(word).name if "/" in word else word for word in sys.argv[1:]
    )
    print(write_result("loop", device, command.strip(), content), file=sys.stderr)
    replace_table("loop", table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
