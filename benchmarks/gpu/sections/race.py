"""Section: whole calls to +4.29 dB, the engine in its production configuration against the original's loop.

+4.29 dB is what the original's published setting gains on photographs with TAEF2 (docs/quality.md). Here the pictures are
generated, as in `bench_step.Problem`, and starts are near the solution; ratios count, not seconds elsewhere.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ....engine.autoencoders.rewrite import FAST_REWRITES
from ....engine.optimization.config import OptimizationConfig
from ....engine.optimization.optimizer import LatentOptimizer
from ...bench_loop import decoded_psnr
from ...bench_step import Problem
from ...peers import ORIGINAL, run_original
from ...timing import now, quantiles
from ..section import Measurement, Rates, Result

NEEDS_GPU = ""
GOAL = 4.29  # dB


def cells(quick: bool) -> list[tuple[str, float, dict[str, Any]]]:
    wanted = {"size": 32, "images": 1} if quick else {"size": 512, "images": 5}
    return [(f"to {GOAL:+} dB at {wanted['size']}²", 40.0, wanted)]


def prepare(device: torch.device, quick: bool, size: int, images: int) -> Measurement:
    problem = Problem(device, quick)
    problem.autoencoder.rewrites = FAST_REWRITES
    config = OptimizationConfig(target_gain=GOAL, gradient_error=0.0, iterations=100)
    optimizer = LatentOptimizer(config)
    starts, targets = problem.batch(images, size)

    def engine(start: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        found = optimizer.optimize_batch(problem.autoencoder, start, target, check_range=False)
        return found[0].optimized_latents

    methods: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"relatent": engine}
    for name, (relative, iterations) in ORIGINAL.items():
        steps = 10 if quick else iterations
        methods[name] = partial(run_original, problem.decoder, relative=relative, iterations=steps, gain=GOAL)
    for method in methods.values():
        method(starts[:1], targets[:1])  # compiles, and warms up

    def measurement(_rates: Rates) -> Result:
        rows: list[Result] = []
        for i in range(images):
            start, target = starts[i : i + 1], targets[i : i + 1]
            row: Result = {}
            for name, method in methods.items():
                begin = now(device)
                end = method(start, target)
                seconds = now(device) - begin
                before, after = (decoded_psnr(problem.autoencoder, z, target) for z in (start, end))
                row[name] = {"seconds": seconds, "gain_db": after - before}
            rows.append(row)
        ratios = {
            name: quantiles([row[name]["seconds"] / row["relatent"]["seconds"] for row in rows]) for name in ORIGINAL
        }
        modes = [loop.mode for loop in problem.autoencoder.cache.values("loops").values()]  # empty: eager
        return {"size": size, "goal_db": GOAL, "modes": modes, "images": rows, "times_relatents_seconds": ratios}

    return measurement
