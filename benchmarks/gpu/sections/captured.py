"""Section: the captured loop does what the eager one does, and is as good as the original's."""

from typing import Any

import torch

from ....engine.losses.metrics import psnr
from ....engine.optimization.runners import CapturedRunner, CompiledRunner, EagerRunner, Runner
from ...bench_step import ENDLESS, PER_REPLAY, Problem, equal_quality
from ..section import Measurement, Rates, Result

NEEDS_GPU = "only a GPU has CUDA graphs"
SIZE, BATCH = 256, 2
APART = 0.02  # of the losses, at most: they were 0.006 apart on an H200, and gains after ten iterations 0.35 dB, by rounding


def cells(quick: bool) -> list[tuple[str, float, dict[str, Any]]]:
    return [("captured equals eager", 2.0, {}), ("equal quality", 1.0, {"quality": True})]


def prepare(device: torch.device, quick: bool, quality: bool = False) -> Measurement:
    problem = Problem(device, quick)
    if quality:
        found = equal_quality(problem, SIZE, 50, "captured")
        return lambda _rates: found | {"iterations": 50, "size": SIZE}
    compiled = CompiledRunner(*reversed(problem.slots("production", "bf16", BATCH, SIZE)))
    eager = EagerRunner(*reversed(problem.slots("production", "bf16", BATCH, SIZE)))

    def measurement(_rates: Rates) -> Result:
        captured = CapturedRunner(compiled, PER_REPLAY)
        return compare(problem, captured, {"compiled": compiled, "eager": eager})

    return measurement


def compare(problem: Problem, captured: Runner, others: dict[str, Runner]) -> Result:
    """Run two sets of pictures through each runner, the second written in place over the first, which a graph must see.

    Returns gains in dB and the largest relative differences of losses; with "error" where a loss is too far off.
    """
    rows: list[Result] = []
    for turn in range(2):
        latents, targets = problem.batch(BATCH, SIZE)
        latents, targets = (latents, targets) if turn == 0 else (latents.flip(0), targets.flip(0))
        expected = _run(captured, latents, targets)
        for name, runner in others.items():
            found = _run(runner, latents, targets)
            rows.append({
                "against": name, "pictures": ["first", "second, in place"][turn],
                "gain_db": _gains(problem, latents, targets, expected[0]),
                "other_gain_db": _gains(problem, latents, targets, found[0]),
                "equal_bits": bool(torch.equal(expected[0], found[0])),
                "largest_loss_difference": ((expected[1] - found[1]).abs() / found[1].abs()).max().item(),
            })  # fmt: skip
    gains = max(abs(a - b) for row in rows for a, b in zip(row["gain_db"], row["other_gain_db"], strict=True))
    losses = max(row["largest_loss_difference"] for row in rows)
    result: Result = {"rows": rows, "iterations": PER_REPLAY, "largest_gain_difference_db": gains}
    if not all(row["largest_loss_difference"] <= APART for row in rows):  # NaN too
        result["error"] = f"the captured loop's losses are off by {losses:.2%}; at most {APART:.0%} is rounding"
    return result


def _run(runner: Runner, latents: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the latents after `PER_REPLAY` iterations from these, and the losses of each (B, iterations)."""
    runner.slots.load(list(range(len(latents))), latents, targets, ENDLESS)
    runner.run(PER_REPLAY)
    with torch.no_grad():
        return runner.slots.to_latents(runner.slots.latents).clone(), runner.slots.losses[:, :PER_REPLAY].clone()


@torch.no_grad()
def _gains(problem: Problem, start: torch.Tensor, targets: torch.Tensor, end: torch.Tensor) -> list[float]:
    """Return the gain of each picture in dB, decoded in fp32."""
    before, after = (psnr(problem.decoder(latents), targets) for latents in (start, end))
    return [float(gain) for gain in (after - before).tolist()]
