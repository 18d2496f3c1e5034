"""Does Phase 1, spectral truncation, speed a codec's training up? On against off, the same steps, several seeds.

    python -m relatent.benchmarks.research.codec_phase1 TRAIN TEST WORK [--epochs 60] [--truncation-epochs 20] [--seeds 3]

TRAIN, TEST: folders of photographs. WORK: the trainings' checkpoints; started again it goes on there. Writes
benchmarks/results/codec_phase1-*.json, docs/images/codec_phase1.png and the table of docs/codec_training.md.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...systems.codec.training.run_log import LINES, read_log
from ...systems.codec.training.settings import TrainingSettings
from ...systems.codec.training.trainer import Trainer
from ..codec import DOCS
from ..results import command_line, replace_table, run_main, write_result

LEVELS = (
    0.25,
    0.5,
    0.75,
)  # of the way, in log loss, from the first test to the best end: losses at which steps are compared


def train(options: argparse.Namespace, on: bool, seed: int) -> list[tuple[int, float]]:
    """Train once. Returns (steps, test loss) after every epoch."""
    settings = TrainingSettings(
        str(options.train),
        str(options.work / f"{'on' if on else 'off'}_{seed}"),
        str(options.test),
        lmbda=0.0067,
        epochs=options.epochs,
        batch_size=8,
        patch_size=128,
        learning_rate=1e-3,
        lr_schedule="cosine",
        seed=seed,
        spectral_reg=on,
        truncation_epochs=options.truncation_epochs,
        precision=options.precision,
    )
    print(f"Phase 1 {'on' if on else 'off'}, seed {seed}", flush=True)
    Trainer(settings).run()
    return [
        (line["step"] + 1, line["test/loss"]) for line in read_log(settings.log_folder / LINES) if "test/loss" in line
    ]


def steps_to(curve: Sequence[tuple[int, float]], loss: float) -> int | None:
    """The first tested step from which the loss is at most `loss` for good; None if it never is."""
    reached = None
    for step, value in curve:
        if value > loss:
            reached = None
        elif reached is None:
            reached = step
    return reached


def compare(curves: dict[str, list[list[tuple[int, float]]]]) -> dict[str, Any]:
    """Steps to equal losses and the last loss: the values of all seeds, by `on` and `off`."""
    start = statistics.fmean(curve[0][1] for curve in curves["off"])
    end = min(curve[-1][1] for each in curves.values() for curve in each)
    losses = [start * (end / start) ** level for level in LEVELS]
    worst = max(curve[-1][1] for each in curves.values() for curve in each)
    return {
        "steps_to_loss": [
            {"loss": loss, **{name: [steps_to(curve, loss) for curve in each] for name, each in curves.items()}}
            for loss in [*losses, worst]
        ],
        "last_loss": {name: [curve[-1][1] for curve in each] for name, each in curves.items()},
    }


def table(result: dict[str, Any]) -> str:
    """A row for each loss, and one for the end; mean (least to most) of the seeds."""
    lines = ["| | Phase 1 off | Phase 1 on |", "| --- | --- | --- |"]
    for row in result["steps_to_loss"]:
        lines.append(
            f"| steps to a test loss of {row['loss']:.3f} | {_spread(row['off'], 0)} | {_spread(row['on'], 0)} |"
        )
    last = result["last_loss"]
    lines.append(f"| test loss at the end | {_spread(last['off'], 4)} | {_spread(last['on'], 4)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float | None], digits: int) -> str:
    found = [value for value in values if value is not None]
    if len(found) < len(values):
        return f"reached by {len(found)} of {len(values)}"
    return f"{statistics.fmean(found):.{digits}f} ({min(found):.{digits}f} to {max(found):.{digits}f})"


def plot(curves: dict[str, list[list[tuple[int, float]]]], truncated_until: int, path: Path) -> None:
    """Test loss over steps, a line for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    for (name, each), colour in zip(curves.items(), ("tab:blue", "tab:orange"), strict=True):
        for index, curve in enumerate(each):
            label = f"Phase 1 {name}, {len(each)} seeds" if index == 0 else None
            axes.plot(
                [step for step, _ in curve], [loss for _, loss in curve], color=colour, label=label, linewidth=1.2
            )
    axes.axvline(truncated_until, color="grey", linestyle=":", label="end of the truncation")
    axes.set(xlabel="steps", ylabel="test loss, whole spectra", yscale="log", title="Phase 1 on and off")
    for axis_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis_formatter("{x:g}")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("train", "test", "work"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--truncation-epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", default="bf16")
    options = parser.parse_args(arguments)
    curves = {name: [train(options, name == "on", seed) for seed in range(options.seeds)] for name in ("off", "on")}
    result = compare(curves)
    per_epoch = curves["on"][0][0][0]
    plot(curves, per_epoch * options.truncation_epochs, DOCS / "images" / "codec_phase1.png")
    replace_table("codec_phase1", table(result), DOCS / "codec_training.md")
    settings = {name: getattr(options, name) for name in ("epochs", "truncation_epochs", "seeds", "precision")}
    content = {"settings": settings, "steps_per_epoch": per_epoch, **result, "curves": curves}
    print(write_result("codec_phase1", torch.device("cpu"), command_line("research.codec_phase1", arguments), content))
    print(table(result))


if __name__ == "__main__":
    run_main(main)
