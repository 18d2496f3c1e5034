"""Cost of each regulariser in dB, and its effect on the latent: distance from the start, standard deviation, roughness.

    python -m relatent.benchmarks.research.regularisers [--size 128] [--limit 2] [--iterations 50]

It uses the bundled autoencoder on scikit-image's photographs, which that was trained on: only the differences between
rows are meaningful. Writes benchmarks/results/regularisers-*.json and the table of docs/objective.md.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.autoencoders.loading import load_autoencoder
from ...engine.losses.regularisers import latent_std, tv
from ...engine.optimization.config import OptimizationConfig
from ...engine.optimization.optimizer import LatentOptimizer, OptimizationResult
from ..bench_loop import load_targets
from ..results import command_line, replace_table, run_main, write_result

PAGE = Path(__file__).parents[2] / "docs" / "objective.md"

EXPRESSIONS = (
    "", "0.001*l2_to_init", "0.01*l2_to_init", "0.01*prior", "0.1*prior", "0.001*tv", "0.01*tv",
    "0.01*prior + 0.001*l2_to_init",
)  # fmt: skip


def measure(autoencoder: Autoencoder, targets: list[torch.Tensor], iterations: int) -> list[dict[str, Any]]:
    """Return one row per expression: means over the photographs."""
    rows = []
    for expression in EXPRESSIONS:
        config = OptimizationConfig(
            iterations=iterations, regularisers=expression, precision="fp32", convergence_threshold=0.0
        )
        figures = []
        for target in targets:
            start = autoencoder.encode(target)
            result = LatentOptimizer(config).optimize_batch(autoencoder, start, target, check_range=False)[0]
            figures.append(describe(result))
        row = {key: round(statistics.mean(each[key] for each in figures), 4) for key in figures[0]}
        rows.append({"regularisers": expression, **row})
    return rows


def describe(result: OptimizationResult) -> dict[str, float]:
    """Return the figures of one result.

    gain_db: gain in PSNR.
    distance: root mean square of (z − z₀) / σ.
    spread_ratio: mean over channels of s / s₀.
    mean_shift: mean over channels of |μ − μ₀| / σ.
    roughness_ratio: total variation divided by that of the start.
    """
    start, end = result.initial_latents, result.optimized_latents
    sigma = latent_std(start).item()
    stds, means = ([f(x.flatten(2)) for x in (end, start)] for f in (lambda x: x.std(2), lambda x: x.mean(2)))
    return {
        "gain_db": result.metrics["psnr_improvement"],
        "distance": ((end - start) / sigma).square().mean().sqrt().item(),
        "spread_ratio": (stds[0] / stds[1]).mean().item(),
        "mean_shift": (means[0] - means[1]).abs().mean().item() / sigma,
        "roughness_ratio": (tv(end, start) / tv(start, start)).item(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| regularisers | gain | ‖z − z₀‖ / σ | s / s₀ | \\|μ − μ₀\\| / σ | TV / TV₀ |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        name = f"`{row['regularisers']}`" if row["regularisers"] else "none"
        lines.append(
            f"| {name} | {row['gain_db']:+.2f} dB | {row['distance']:.2f} | {row['spread_ratio']:.2f} "
            f"| {row['mean_shift']:.2f} | {row['roughness_ratio']:.2f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--limit", type=int, default=2, help="photographs")
    parser.add_argument("--iterations", type=int, default=50)
    options = parser.parse_args()
    autoencoder = load_autoencoder("tiny", device="cpu")
    targets = load_targets(None, options.size, options.limit, autoencoder.device)
    rows = measure(autoencoder, targets, options.iterations)
    print(table(rows))
    content = {
        "size": options.size, "images": options.limit, "iterations": options.iterations, "decoder": "tiny",
        "results": rows,
    }  # fmt: skip
    command = command_line("research.regularisers")
    print(write_result("regularisers", autoencoder.device, command, content), file=sys.stderr)
    replace_table("regularisers", table(rows), PAGE)
    return 0


if __name__ == "__main__":
    run_main(main)
