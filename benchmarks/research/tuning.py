"""Hyperparameter search for the other methods: whole grids on train, the best few settings on val, the chosen ones on
test.
"""

import itertools
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...engine.autoencoders.autoencoder import Autoencoder
from .evaluation_counter import POINTS, Run, count_costs, mean_gains
from .learned import Learned
from .methods import METHODS, Method, run_method

CANDIDATES = 3  # Settings of each method that a tuning passes on to val.


def variants(method: Method) -> list[Method]:
    """Return the method with the settings of every point of its grid."""
    combinations = itertools.product(*method.grid.values())
    settings = (method.settings | dict(zip(method.grid, values, strict=True)) for values in combinations)
    return [replace(method, settings=each) for each in settings]


def score(runs: Sequence[Run], budget: float) -> float:
    """Return the score that tuning maximises: the mean gain in dB over the points of work within the budget.

    The points are denser at small amounts of work.
    """
    points = [point for point in POINTS if point <= budget]
    return statistics.mean(mean_gains(runs, points or [budget]))


def tune(
    decoders: dict[str, Autoencoder], targets: Sequence[torch.Tensor], learning_targets: Sequence[torch.Tensor],
    methods: dict[str, Method],
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """Return method -> points of its grid, best first, each with its settings and its score (dB), as the mean over
    decoders and for each decoder. Methods without a grid are skipped.
    """
    tools = {name: (count_costs(each, targets[0]), Learned(each, learning_targets)) for name, each in decoders.items()}
    found: dict[str, list[dict[str, Any]]] = {}
    for name, method in methods.items():
        if not method.grid:
            continue
        rows = []
        for variant in variants(method):
            scores = {
                decoder: score(
                    [run_method(autoencoder, *tools[decoder], variant, target) for target in targets], method.budget
                )
                for decoder, autoencoder in decoders.items()
            }
            mean = statistics.mean(scores.values())
            each = {decoder: round(value, 3) for decoder, value in scores.items()}
            rows.append({"settings": variant.settings, "score_db": round(mean, 3), "each_db": each})
            print(f"{name} {variant.settings}: {mean:.3f} dB", file=sys.stderr)
        found[name] = sorted(rows, key=lambda row: -row["score_db"])
    return found


def chosen_methods(names: Sequence[str], budget: float | None, settings: Path | None, split: str) -> dict[str, Method]:
    """Return the requested methods: on val each with the best settings of a tuning, numbered; on test with the best of
    val.
    """
    methods = {name: METHODS[name] for name in names if name in METHODS}
    if budget is not None:
        methods = {name: replace(method, budget=min(budget, method.budget)) for name, method in methods.items()}
    if settings is None:
        return methods
    ranked = json.loads(settings.read_text(encoding="utf-8"))["ranked"]
    found: dict[str, Method] = {}
    for name, method in methods.items():
        kept = ranked.get(name, [{"settings": method.settings}])[: CANDIDATES if split == "val" else 1]
        for number, row in enumerate(kept):
            found[f"{name} #{number + 1}" if number else name] = replace(method, settings=row["settings"])
    return found


def ranking(results: dict[str, Any], methods: dict[str, Method]) -> dict[str, list[dict[str, Any]]]:
    """Return method -> its candidates in a run, best first, by the gain averaged over `POINTS` and decoders."""
    scores: dict[str, list[float]] = {name: [] for name in methods}
    for result in results.values():
        for row in result["rows"]:
            if row["method"] in scores:
                scores[row["method"]].append(statistics.mean(row["gain_db"]))
    ranked: dict[str, list[dict[str, Any]]] = {}
    for name in sorted(scores, key=lambda name: -statistics.mean(scores[name])):
        row = {"settings": methods[name].settings, "score_db": round(statistics.mean(scores[name]), 3)}
        ranked.setdefault(name.split(" #")[0], []).append(row)
    return ranked
