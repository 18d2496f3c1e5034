"""Recognition of generated spectrograms against their diversity, over scales of the guidance.

    python -m relatent.benchmarks.spectrogram.guidance MODEL DATA WORK [--scales 0 1 1.5 2 3 5] [--samples_per_user N]

MODEL: what `relatent spectrogram train` wrote. DATA: the spectrograms that it was trained on. WORK gets samples/SCALE, validation/SCALE.json
and the validators, which are trained once, and judge the samples of all scales. Started again it goes on. Writes
benchmarks/results/spectrogram_guidance-*.json, docs/images/spectrogram_guidance.png and the table of docs/spectrogram_guidance.md.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...engine.runtime.atomic import atomic_path, write_json
from ...exporters.summaries.markdown import markdown_table
from ...systems.spectrogram.data.spectrogram_folder import read_spectrograms
from ...systems.spectrogram.diffusion.generate import GenerationSettings, generate
from ...systems.spectrogram.vae.model import find_vae, read_record
from ...systems.spectrogram.validation.fitting import FitSettings
from ...systems.spectrogram.validation.pipeline import ValidationSettings, validate
from ...systems.spectrogram.validation.scores import CLASSIFICATION, figure_at
from ..results import FOLDER, command_line, replace_table, run_main, write_result

DOCS = Path(__file__).parents[2] / "docs"
PAGE, PLOT = DOCS / "spectrogram_guidance.md", DOCS / "images" / "spectrogram_guidance.png"
SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0)
VALIDATORS = "validators"
REFERENCES = {"held_out": "held-out real", "baseline": "independent pixels"}
# heading, path in what `validate` says of a set, format
COLUMNS = (
    ("classified as their user", "recognition.accuracy", "{:.1%}"),
    ("accepted (probability > 0.8)", "recognition.accepted", "{:.1%}"),
    ("Fréchet distance", "frechet", "{:.1f}"),
    ("diversity, real = 1", "diversity_ratio", "{:.2f}"),
    ("spectrum distance, dB", "statistics.spectrum_distance", "{:.2f}"),
    ("metric learning", "metric_success", "{:.1%}"),
    ("copies", "nearest.copies", "{:.1%}"),
)


def judge_scale(options: argparse.Namespace, scale: float, vae: Mapping[str, Any], fit: FitSettings) -> dict[str, Any]:
    """Generate at one scale and validate the samples, where that is not done yet. vae: the record of the VAE's training."""
    samples, done = options.work / "samples" / f"{scale:g}", options.work / "validation" / f"{scale:g}.json"
    generated = generate(
        options.model,
        samples,
        options.samples_per_user,
        settings=GenerationSettings(scale, options.steps, options.seed),
        batch_size=32,
        on_step=lambda now, of: print(f"guidance {scale:g}: {now} of {of} samples", flush=True),
    )
    made_from = {name: generated[name] for name in ("model", "vae", "samples", "num_inference_steps", "seed")}
    made_from |= {"epochs": fit.epochs, "resolution": fit.resolution}
    if done.is_file():
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        if found["made_from"] == made_from:
            return found
    held_out = vae.get("held_out", ValidationSettings.held_out)
    result, _ = validate(ValidationSettings(options.data, samples, options.work / VALIDATORS, fit, held_out), print)
    sets = {
        name: {path: figure_at(result["sets"][name], path) for _, path, _ in COLUMNS}
        for name in ("generated", *REFERENCES)
    }
    found = {name: result[name] for name in ("simulated", "judge", "counts")} | {"sets": sets, "made_from": made_from}
    write_json(done, found)
    return found


def table(scales: Mapping[str, Mapping[str, Any]]) -> str:
    """A row per scale, then held-out real pictures and independent pixels."""
    first = next(iter(scales.values()))
    rows = [(f"guidance {scale}", found["sets"]["generated"]) for scale, found in scales.items()]
    rows += [(text, first["sets"][name]) for name, text in REFERENCES.items()]
    kind = "simulated walkers, " if first["simulated"] else ""
    heading = (f"{kind}{first['counts']['generated']} samples a scale", *(column[0] for column in COLUMNS))
    cells = [
        [name, *("–" if figures[path] is None else form.format(figures[path]) for _, path, form in COLUMNS)]
        for name, figures in rows
    ]
    return markdown_table(heading, cells)


def plot(scales: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Accuracy and Fréchet distance over diversity, a point per scale above 0, held-out real pictures beside them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    real = next(iter(scales.values()))["sets"]["held_out"]
    # without the condition, samples lie so far away that the others would be one point
    points = {scale: found["sets"]["generated"] for scale, found in scales.items() if float(scale) > 0.0}
    for axes, measure, text, factor in zip(
        figure.subplots(1, 2),
        ("recognition.accuracy", "frechet"),
        ("classified as their user, %", "Fréchet distance on own features"),
        (100.0, 1.0),
        strict=True,
    ):
        drawn = [(scale, one["diversity_ratio"], factor * one[measure]) for scale, one in points.items()]
        axes.plot(
            [x for _, x, _ in drawn], [y for _, _, y in drawn], "o-", color="#d8572a", label="generated, by scale"
        )
        for scale, x, y in drawn:
            axes.annotate(scale, (x, y), (6, 6), textcoords="offset points", fontsize=9)
        axes.plot(real["diversity_ratio"], factor * real[measure], "*", color="#3b7dd8", ms=14, label="held-out real")
        axes.margins(0.12)
        axes.set_xlabel("diversity within a user, real = 1")
        axes.set_ylabel(text)
        axes.grid(True, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    left, right = figure.axes
    left.axhline(100 * CLASSIFICATION, color="#8a8a8a", ls="--", lw=1, label="target")
    left.set_ylim(min(100 * CLASSIFICATION, left.get_ylim()[0]) - 3, 103)
    right.set_ylim(bottom=0)
    left.legend(frameon=False, loc="best")
    kind = "simulated walkers" if next(iter(scales.values()))["simulated"] else "walkers"
    figure.suptitle(
        f"Generated spectrograms of {kind} by scale of the guidance, the numbers at the points", fontsize=12
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "work"):
        parser.add_argument(name, metavar=name.upper(), type=Path)
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES, metavar="F")
    parser.add_argument("--samples_per_user", type=int, default=10, metavar="N", help="(default: 10)")
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="of DDIM (default: 50)")
    parser.add_argument("--epochs", type=int, default=FitSettings.epochs, metavar="N", help="of the validators")
    parser.add_argument("--batch_size", type=int, default=FitSettings.batch_size, metavar="N", help="of the validators")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of samples and validators")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="for the figures as JSON")
    options = parser.parse_args(arguments)
    vae = read_record(find_vae(options.model)[1])
    users = 1 + max(item.user for item in read_spectrograms(options.data))
    fit = FitSettings(users, int(vae["resolution"]), options.epochs, options.batch_size, seed=options.seed)
    scales: dict[str, dict[str, Any]] = {}
    for scale in sorted(options.scales):
        scales[f"{scale:g}"] = judge_scale(options, scale, vae, fit)
        print(table(scales), flush=True)
    command = command_line("spectrogram.guidance", arguments)
    print(write_result("spectrogram_guidance", torch.device("cpu"), command, {"scales": scales}, options.out))
    plot(scales, PLOT)
    replace_table("spectrogram_guidance", table(scales), PAGE)


if __name__ == "__main__":
    run_main(main)
