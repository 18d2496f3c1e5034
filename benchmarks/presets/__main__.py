"""Whole calls: seconds and gain of the presets and of shorter runs, encoding and final comparison included.

    python -m relatent.benchmarks.presets --bsds500 FOLDER [--taef2 FOLDER] [--split test] [--size 256] [--limit 8] [--repeats 3]

A preset is on the front where no other settings gain as much in less time. Shortened are the defaults with fewer iterations.
"two iterations, no encoder step" are the settings of `fast` until version 0.1. All settings run in turn on each photograph.
Writes benchmarks/results/presets-*.json and the table in docs/quality.md.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.inputs.sources import bsds500_folder
from ...engine.optimization.config import OptimizationConfig
from ...engine.optimization.optimizer import LatentOptimizer
from ...engine.optimization.presets import preset
from ...exporters.summaries.markdown import markdown_table
from ..bench_loop import load_decoders, load_targets, photograph_options
from ..results import FOLDER, command_line, replace_table, run_main, write_result
from ..timing import now

PAGE = Path(__file__).parents[2] / "docs" / "quality.md"
PRESETS = ("draft", "fast", "balanced")  # `best` takes minutes, and `quality.py` has it
EARLIER = "two iterations, no encoder step"
SHORTENED = (1, 2, 3, 4, 5, 7, 10, 15, 25)


def compared() -> dict[str, OptimizationConfig]:
    """By name."""
    found = {name: preset(name) for name in PRESETS}
    found[EARLIER] = OptimizationConfig(iterations=2, warm_start=0)
    return found | {f"default, {count} iterations": OptimizationConfig(iterations=count) for count in SHORTENED}


def measure(
    autoencoder: Autoencoder, targets: Sequence[torch.Tensor], settings: dict[str, OptimizationConfig], repeats: int
) -> list[dict[str, Any]]:
    """Return a row for each of the settings. Seconds: the median over photographs of the least of `repeats` whole calls;
    ratio: of `EARLIER`'s on the same photograph, the median of all pairs."""

    def call(config: OptimizationConfig, target: torch.Tensor) -> tuple[float, float]:
        begin = now(target.device)
        start = autoencoder.encode(target)
        result = LatentOptimizer(config).optimize_batch(autoencoder, start, target, encoded=start, check_range=False)[0]
        return now(target.device) - begin, result.metrics["psnr_improvement"]

    for config in settings.values():
        call(config, targets[0])  # calibrates, selects algorithms, allocates memory
    seconds: dict[str, list[list[float]]] = {name: [] for name in settings}
    gains: dict[str, list[float]] = {name: [] for name in settings}
    for target in targets:
        rounds = [{name: call(config, target) for name, config in settings.items()} for _ in range(repeats)]
        for name in settings:
            seconds[name].append([each[name][0] for each in rounds])
            gains[name].append(rounds[0][name][1])
        print(f"{autoencoder.name}: {len(gains[EARLIER])} of {len(targets)} photographs", file=sys.stderr)
    flat = {name: [value for values in rows for value in values] for name, rows in seconds.items()}
    return [
        {
            "settings": name,
            "iterations": config.iterations,
            "gain_db": round(statistics.mean(gains[name]), 3),
            "least_db": round(min(gains[name]), 3),
            "seconds": round(statistics.median(min(values) for values in seconds[name]), 4),
            "ratio": round(statistics.median(a / b for a, b in zip(flat[name], flat[EARLIER], strict=True)), 4),
        }
        for name, config in settings.items()
    ]


def beaten_by(rows: Sequence[dict[str, Any]], name: str, seconds: float = 1.3, gain: float = 0.3) -> list[str]:
    """Which shortened defaults gain `gain` dB more than the preset `name` in at most `seconds` times its seconds."""
    own = next(row for row in rows if row["settings"] == name)
    return [
        row["settings"]
        for row in rows
        if row["settings"].startswith("default, ")
        and row["seconds"] <= seconds * own["seconds"]
        and row["gain_db"] > own["gain_db"] + gain
    ]


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """A Markdown table, the quickest first."""
    rows = [
        [
            decoder,
            f"`{row['settings']}`" if row["settings"] in PRESETS else row["settings"],
            f"{row['gain_db']:+.2f} dB",
            f"{row['least_db']:+.2f} dB",
            f"{row['seconds']:.2f}",
            f"{row['ratio']:.2f}",
        ]
        for decoder, found in results.items()
        for row in sorted(found, key=lambda row: row["seconds"])
    ]
    return markdown_table(["decoder", "settings", "gain", "least", "s / call", "ratio to the earlier `fast`"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    photograph_options(parser)
    parser.add_argument("--taef2", type=Path, help="folder with TAEF2's weights, to measure on it too")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="for trials: write there, and leave the page as it is")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    decoders = load_decoders(options.taef2, options.device)
    device = decoders["tiny"].device
    targets = load_targets(bsds500_folder(options.bsds500) / options.split, options.size, options.limit, device)
    results = {name: measure(each, targets, compared(), options.repeats) for name, each in decoders.items()}
    print(table(results))
    content = {
        "split": options.split, "size": options.size, "images": len(targets), "repeats": options.repeats, "results": results,
        "beaten_by": {name: {one: beaten_by(rows, one) for one in PRESETS} for name, rows in results.items()},
    }  # fmt: skip
    command = command_line("presets", arguments)
    print(write_result("presets", device, command, content, options.out or FOLDER), file=sys.stderr)
    if options.out is None:
        replace_table("whole calls", table(results), PAGE)


if __name__ == "__main__":
    run_main(main)
