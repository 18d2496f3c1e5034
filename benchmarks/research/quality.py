"""Gain per unit of work: every search method on the same photographs, decoder and machine, in one run.

    python -m relatent.benchmarks.research.quality --bsds500 FOLDER --split test [--size 256] [--limit 8] [--taef2 FOLDER]
        [--methods NAME ... | all] [--settings FILE] [--plot docs/images/quality.png]
    python -m relatent.benchmarks.research.quality --bsds500 FOLDER --split train --tune --limit 4 ...

Work is counted in gradient iterations (see `evaluation_counter.py`); the other methods are in `methods.py`, and the
engine takes part with its presets. Settings are tuned on train, chosen on val, and reported once on test: `--settings`
takes the JSON file of the stage before. Writes benchmarks/results/quality-*.json (quality_val, quality_train), the
README's tables from a test run, the table of docs/quality.md from a val run, and a plot. With --out FOLDER, for trials,
all results go there and no page changes.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.inputs.sources import bsds500_folder
from ...engine.losses.metrics import psnr
from ...engine.optimization.config import OptimizationConfig
from ...engine.optimization.loop import refinement_iterations
from ...engine.optimization.optimizer import LatentOptimizer
from ...engine.optimization.presets import preset
from ...engine.runtime.device import resolve_precision
from ..bench_loop import load_decoders, load_targets, photograph_options
from ..peers import ORIGINAL
from ..results import FOLDER, command_line, replace_table, run_main, write_result
from ..timing import now
from .evaluation_counter import POINTS, Costs, Run, count_costs, low_rank_iteration, mean_gains, means
from .learned import Learned
from .methods import METHODS, STANDARD, Method, run_method
from .tuning import chosen_methods, ranking, tune

PAGE = Path(__file__).parents[2] / "docs" / "quality.md"

PRESETS = ("draft", "fast", "balanced", "best")
IN_FP32 = ("fast", "balanced")  # Measured in fp32 too; `best` runs in fp32 by default.
CURVE_DENSITY = 12  # Approximate number of points of a plotted curve per factor of ten in work.
LEARNING_PHOTOGRAPHS = 4  # The number of photographs, the last ones of the train split, from which methods may learn.
# Results of the original that the presets are compared with: claim -> (method, iterations).
GOALS = {
    "published, final": ("original, published", 50),
    "default, 15": ("original, default", 15),
    "default, 50": ("original, default", 50),
    "default, final": ("original, default", 150),
}


def run_preset(
    autoencoder: Autoencoder, costs: Costs, config: OptimizationConfig, target: torch.Tensor, low_rank: float = 1.0
) -> Run:
    """Run the engine on one photograph by its public optimiser, counting its iterations and encoder steps as work.

    low_rank: the work of an iteration with the low-rank approximate backward pass, before the fp32 refinement. The
    seconds are of the whole call, the final comparison in fp32 included; those of rows before the last are spread evenly.
    """
    start = autoencoder.encode(target)
    begin = now(target.device)
    result = LatentOptimizer(config).optimize_batch(autoencoder, start, target, check_range=False)[0]
    seconds = now(target.device) - begin
    warm, count = getattr(config, "warm_start", 0) * costs.encoder_step, len(result.losses)
    cheap = max(0, count - refinement_iterations(config, target.device)) if low_rank < 1.0 else 0
    work = [warm + min(index, cheap) * low_rank + max(0, index - cheap) for index in range(count + 1)]
    rows = [(work[index], seconds * index / count, loss) for index, loss in enumerate(result.losses)]
    with torch.no_grad():
        first, last = (autoencoder.decode(each) for each in (start, result.optimized_latents))
    rows = [(0.0, 0.0, _error(first, target)), *rows, (work[-1], seconds, _error(last, target))]
    return Run(rows, (psnr(last, target) - psnr(first, target)).item())


def _error(picture: torch.Tensor, target: torch.Tensor) -> float:
    return (picture - target).square().mean().item()


def preset_configs(device: torch.device) -> dict[str, OptimizationConfig]:
    """Return each preset, and its fp32 variant where the default precision is another one."""
    found = {name: preset(name) for name in PRESETS}
    if resolve_precision("auto", device) != "fp32":
        found |= {f"{name}, fp32": preset(name, precision="fp32") for name in IN_FP32}
    return found


def measure(
    autoencoder: Autoencoder, targets: Sequence[torch.Tensor], learning_targets: Sequence[torch.Tensor],
    methods: dict[str, Method], configs: dict[str, OptimizationConfig],
) -> dict[str, Any]:  # fmt: skip
    """Return costs, a row per method, and claims. On each photograph all methods run in turn; exits where a preset loses quality."""
    costs, learned = count_costs(autoencoder, targets[0]), Learned(autoencoder, learning_targets)
    searches: dict[str, Callable[[torch.Tensor], Run]] = {}
    for name, method in methods.items():
        searches[name] = partial(run_method, autoencoder, costs, learned, method)
        # The first calls select algorithms, allocate memory, and learn the decoder's properties.
        short = replace(method, budget=min(method.budget, 3.0))
        run_method(autoencoder, costs, learned, short, targets[0])
    low_rank = {
        name: low_rank_iteration(autoencoder, costs, targets[0], each.gradient_error) for name, each in configs.items()
    }
    for name, config in configs.items():
        searches[name] = partial(run_preset, autoencoder, costs, config, low_rank=low_rank[name])
        run_preset(autoencoder, costs, replace(config, iterations=2), targets[0])
    runs: dict[str, list[Run]] = {name: [] for name in searches}
    for number, target in enumerate(targets, 1):
        for name, search in searches.items():
            runs[name].append(search(target))
            if name in configs and runs[name][-1].gain_db < 0:
                raise SystemExit(f"{name} lost quality on photograph {number}: {runs[name][-1].gain_db:.2f} dB")
        print(f"{autoencoder.name}: photograph {number} of {len(targets)}", file=sys.stderr)
    settings = {name: method.settings for name, method in methods.items()}
    settings |= {name: config.to_dict() for name, config in configs.items()}
    return {
        "flops": asdict(costs),
        "encoder_step_work": round(costs.encoder_step, 4),
        "iteration_work": {name: round(work, 4) for name, work in low_rank.items()},
        "rows": [
            {"method": name, "preset": name in configs, **describe(each), "settings": settings[name]}
            for name, each in runs.items()
        ],
        "claims": claims(runs, list(configs)),
    }  # fmt: skip


def describe(runs: Sequence[Run]) -> dict[str, Any]:
    """Return means over photographs.

    work, gain_db: at each of `POINTS` within the longest run, and at its end.
    curve: at the work of the iterates themselves, about `CURVE_DENSITY` kept per factor of ten, with the seconds spent until then.
    final_db, least_db: mean and least gain at the end, in PSNR of the clamped image.
    """
    works = sorted({round(row[0], 6) for run in runs for row in run.rows})
    points = [point for point in POINTS if point < works[-1]] + [works[-1]]
    ratio = 10.0 ** (1.0 / CURVE_DENSITY)
    own = [works[-1]]
    for work in reversed(works[1:-1]):
        if own[-1] >= min(work * ratio, work + 5.0):
            own.append(work)
    own.reverse()
    return {
        "final_work": round(statistics.mean(run.work for run in runs), 2),
        "final_db": round(statistics.mean(run.gain_db for run in runs), 2),
        "least_db": round(min(run.gain_db for run in runs), 2),
        "seconds_per_image": round(statistics.median(run.seconds for run in runs), 3),
        "work": [round(point, 3) for point in points],
        "gain_db": [round(gain, 3) for gain in mean_gains(runs, points)],
        "curve": {
            "work": [round(work, 3) for work in own],
            "gain_db": [round(gain, 3) for gain in mean_gains(runs, own)],
            "seconds": [round(each, 3) for each in means([run.seconds_at(own) for run in runs])],
        },
    }


def first_work(runs: Sequence[Run], gain: float) -> float | None:
    """Return the least work at which the mean gain reaches `gain`; None where it never does."""
    works = sorted({row[0] for run in runs for row in run.rows})
    return next((work for work, found in zip(works, mean_gains(runs, works), strict=True) if found >= gain), None)


def claims(runs: dict[str, list[Run]], presets: Sequence[str]) -> list[dict[str, Any]]:
    """Return the work at which each preset's mean gain reaches each goal, and the ratio to the goal's own work."""
    found = []
    for claim, (method, iterations) in GOALS.items():
        if method not in runs or max(run.work for run in runs[method]) < iterations - 1e-6:
            continue
        (goal,) = mean_gains(runs[method], [iterations])
        for name in presets:
            work = first_work(runs[name], goal)
            found.append(
                {
                    "goal": claim,
                    "goal_db": round(goal, 3),
                    "goal_work": iterations,
                    "preset": name,
                    "work": None if work is None else round(work, 2),
                    "times_less": None if not work else round(iterations / work, 2),
                }
            )
    return found


def preset_table(results: dict[str, Any]) -> str:
    """Return a Markdown table of the original's settings and the presets at their default precision."""
    lines = ["| decoder | method | iterations | encoder steps | work | gain | least | s / image |", "| --- " * 8 + "|"]
    for decoder, result in results.items():
        for row in result["rows"]:
            if row["method"] in ORIGINAL or row["method"] in PRESETS:
                name = f"`{row['method']}`" if row["preset"] else row["method"]
                iterations = row["settings"].get("iterations", row["work"][-1])
                lines.append(
                    f"| {decoder} | {name} | {iterations:g} | {row['settings'].get('warm_start', 0)} "
                    f"| {row['final_work']:.1f} | {row['final_db']:+.2f} dB | {row['least_db']:+.2f} dB "
                    f"| {row['seconds_per_image']:.2f} |"
                )
    return "\n".join(lines)


def claim_table(results: dict[str, Any]) -> str:
    """Return a Markdown table of the work that each preset needs for the original's gains; in fp32 too where measured."""
    measured = {row["preset"] for result in results.values() for row in result["claims"]}
    names = [name for name in (*PRESETS, *(f"{name}, fp32" for name in IN_FP32)) if name in measured]
    heads = " | ".join(f"`{name}`" for name in names)
    lines = [f"| decoder | the original's | gain | work | {heads} |", "| --- " * (len(names) + 4) + "|"]
    for decoder, result in results.items():
        for goal in GOALS:
            found = {row["preset"]: row for row in result["claims"] if row["goal"] == goal}
            if not found:
                continue
            any_row = next(iter(found.values()))
            cells = " | ".join(_reached(found.get(name)) for name in names)
            lines.append(f"| {decoder} | {goal} | {any_row['goal_db']:+.2f} dB | {any_row['goal_work']} | {cells} |")
    return "\n".join(lines)


def _reached(claim: dict[str, Any] | None) -> str:
    return "–" if claim is None or not claim["work"] else f"{claim['work']:.1f}, {claim['times_less']:.1f} × less"


def rival_table(results: dict[str, Any], points: Sequence[float] = (2.5, 5, 10, 20, 50)) -> str:
    """Return a Markdown table of every method's mean gain at equal work, the best at 10 first."""
    heads = " | ".join(f"{point:g}" for point in points)
    lines = [
        f"| decoder | method | gain by work {heads} | end | least | s / image |",
        "| --- " * (len(points) + 5) + "|",
    ]
    for decoder, result in results.items():
        for row in sorted(result["rows"], key=lambda row: -_gain_by(row, 10)):
            cells = " | ".join(f"{_gain_by(row, point):+.2f}" if point <= row["work"][-1] else "–" for point in points)
            name = f"`{row['method']}`" if row["preset"] else row["method"]
            lines.append(
                f"| {decoder} | {name} | {cells} | {row['final_db']:+.2f} dB at {row['final_work']:.0f} "
                f"| {row['least_db']:+.2f} dB | {row['seconds_per_image']:.2f} |"
            )
    return "\n".join(lines)


def _gain_by(row: dict[str, Any], work: float) -> float:
    return max((gain for at, gain in zip(row["work"], row["gain_db"], strict=True) if at <= work), default=0.0)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    photograph_options(parser)
    parser.add_argument("--taef2", type=Path, help="folder with TAEF2's weights, to measure on it too")
    names = [*METHODS, *PRESETS, *(f"{name}, fp32" for name in IN_FP32)]
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="names, or all (default: all but on test)")
    parser.add_argument("--budget", type=float, help="at most so much work for each rival, which is else its own")
    parser.add_argument("--tune", action="store_true", help="each method at its grid's points, instead of measuring")
    parser.add_argument("--settings", type=Path, help="JSON file of the tuning, or of the choice on val")
    parser.add_argument(
        "--plot", type=Path, help="where to draw gain against work and seconds; from a test run, in docs/images/"
    )
    parser.add_argument("--out", type=Path, help="for trials: write there, and leave the pages as they are")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    if options.methods is None:
        options.methods = [*STANDARD, *names[len(METHODS) :]] if options.split == "test" else names
    elif options.methods == ["all"]:
        options.methods = names
    if unknown := sorted(set(options.methods) - set(names)):
        parser.error(f"--methods: expected all or some of {'; '.join(names)}, found {'; '.join(unknown)}")
    if options.tune and options.split != "train":
        parser.error(f"--tune is for --split train, found {options.split}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    folder = bsds500_folder(options.bsds500)
    decoders = load_decoders(options.taef2, options.device)
    device = decoders["tiny"].device
    targets = load_targets(folder / options.split, options.size, options.limit, device)
    learning_targets = load_targets(folder / "train", options.size, 10**6, device)[-LEARNING_PHOTOGRAPHS:]
    methods = chosen_methods(options.methods, options.budget, options.settings, options.split)
    content: dict[str, Any] = {"split": options.split, "size": options.size, "images": len(targets)}
    if options.tune:
        content |= {"ranked": tune(decoders, targets, learning_targets, methods)}
    else:
        configs = {name: config for name, config in preset_configs(device).items() if name in options.methods}
        results = {name: measure(each, targets, learning_targets, methods, configs) for name, each in decoders.items()}
        content |= {"ranked": ranking(results, methods), "results": results}
        print(rival_table(results))
    command = command_line("research.quality", arguments)
    name = "quality" if options.split == "test" else f"quality_{options.split}"
    print(write_result(name, device, command, content, options.out or FOLDER), file=sys.stderr)
    if not options.tune:
        publish(options, content["results"])
    return 0


def publish(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Draw the plot and, unless --out is given, update the tables of the pages."""
    if options.plot:
        from .quality_plot import quality_plot

        quality_plot(results, options.plot)
    if options.out is None and options.split == "test":
        if options.plot:
            replace_table("quality plot", f"![gain against work and against seconds](docs/images/{options.plot.name})")
        replace_table("presets", preset_table(results))
        replace_table("claims", claim_table(results), PAGE)
    if options.out is None and options.split == "val":
        replace_table("rivals", rival_table(results), PAGE)


if __name__ == "__main__":
    run_main(main)
