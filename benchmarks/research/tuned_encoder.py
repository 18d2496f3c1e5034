"""Experiment: iterations that start at the latents of an encoder tuned for the frozen decoder.

    python -m relatent.benchmarks.research.tuned_encoder --train FOLDER --bsds500 FOLDER --taef2 FOLDER --out FOLDER
        [--steps 4000] [--batch-size 4] [--crop 128] [--learning-rate 5e-5] [--split val] [--limit 8]

On random crops of the photographs in --train; the tuned encoder is written to
OUT/tuned_encoder.safetensors, and is used again if it is there, so that settings are chosen on val and the same file is
reported once on test (--split test). A tuning that was stopped goes on. Measured on photographs of --split: the gain
over the encoder without an iteration, after a few iterations from both starts, with and without an encoder step, and the
work and the seconds of whole calls until the target gain. The work is counted as in `quality.py`; an encoding counts,
the encoder's own latents are free. Writes tuned_encoder_SPLIT-*.json into OUT.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.autoencoders.loading import load_autoencoder
from ...engine.inputs.images import load_image
from ...engine.inputs.sources import bsds500_folder, discover
from ...engine.optimization.config import OptimizationConfig
from ...engine.optimization.optimizer import LatentOptimizer
from ...engine.optimization.presets import preset
from ...engine.tuning.settings import TuningSettings
from ...engine.tuning.training import random_crop, tune
from ...engine.tuning.tuned_encoder import read_tuned_encoder, write_tuned_encoder
from ..bench_loop import decoded_psnr, load_targets, photograph_options
from ..results import command_line, run_main, write_result
from ..timing import now
from .evaluation_counter import Costs, count_costs, low_rank_iteration
from .quality import run_preset

ITERATIONS = (1, 2, 3, 5, 10)  # Numbers of iterations after which gains are listed; the schedule ends with each.
ITERATION_LIMIT = 200  # Of the runs to the target gain.
SOURCE = 320  # In pixels: the side of a training photograph, which is cropped and scaled to it.


class PhotographCrops:
    """Random crops of photographs, mirrored half of the time."""

    def __init__(self, folder: Path):
        """Read all photographs of a folder, uint8 in memory."""
        self.folder = folder
        pictures = [load_image(source.path, SOURCE).pixels for source in discover(folder)]
        self.pictures = [torch.from_numpy(pixels) for pixels in pictures]

    def describe(self) -> dict[str, Any]:
        """Return the folder's name, and the number and side of the photographs."""
        return {"photographs": self.folder.name, "pictures": len(self.pictures), "side": SOURCE}

    def sample(self, count: int, side: int, generator: torch.Generator) -> torch.Tensor:
        """Return crops (count, 3, side, side) in [-1, 1]."""
        found = []
        for _ in range(count):
            which, mirrored = (int(torch.randint(most, (), generator=generator)) for most in (len(self.pictures), 2))
            crop = random_crop(self.pictures[which], side, generator)
            found.append(crop.flip(2) if mirrored else crop)
        return torch.stack(found)


def measure(
    autoencoder: Autoencoder, tuned: Autoencoder, start: str, targets: Sequence[torch.Tensor], target_gain: float
) -> dict[str, Any]:
    """Return gains without an iteration, a row per number of iterations, and the work and seconds until the target gain.

    start: the file of the tuned encoder. All settings run in turn on each photograph.
    """
    costs = count_costs(autoencoder, targets[0])
    cheap = low_rank_iteration(autoencoder, costs, targets[0], OptimizationConfig().gradient_error)
    configs = {
        (place, warm, count): preset(
            None, iterations=count, warm_start=warm, start=start if place == "tuned" else place
        )
        for count in ITERATIONS
        for warm in (0, 1)
        for place in ("encoder", "tuned")
    }
    rows: dict[tuple[str, int, int], list[dict[str, float]]] = {key: [] for key in configs}
    goals: dict[tuple[str, int], list[dict[str, float]]] = {key[:2]: [] for key in configs}
    zero = []
    for key, config in configs.items():  # The first calls select algorithms, and read the tuned encoder.
        if key[2] == ITERATIONS[0]:
            run_preset(autoencoder, costs, config, targets[0])
    for number, target in enumerate(targets, 1):
        latents, other = autoencoder.encode(target), tuned.encode(target)
        zero.append(decoded_psnr(autoencoder, other, target) - decoded_psnr(autoencoder, latents, target))
        for key, config in configs.items():
            run = run_preset(autoencoder, costs, config, target, cheap)
            extra = costs.encode if key[0] == "tuned" else 0.0
            rows[key].append({"gain_db": run.gain_db, "work": run.work + extra, "seconds": run.seconds})
            if key[2] == ITERATIONS[-1]:
                goals[key[:2]].append(_to_target(autoencoder, costs, config, cheap, extra, target, target_gain))
        print(f"photograph {number} of {len(targets)}", file=sys.stderr)
    return {
        "zero_iterations_db": {"mean": round(statistics.mean(zero), 3), "least": round(min(zero), 3)},
        "rows": [_row(key, found) for key, found in rows.items()],
        "to_target": [_row(key, found) for key, found in goals.items()],
        "encode_work": round(costs.encode, 4),
    }


def _to_target(
    autoencoder: Autoencoder, costs: Costs, config: OptimizationConfig, cheap: float, extra: float, target: torch.Tensor,
    gain: float,
) -> dict[str, float]:  # fmt: skip
    """Return work, seconds and gain of a run that stops at the gain; it reads its own loss after each iteration."""
    config = replace(
        config, iterations=ITERATION_LIMIT, target_gain=gain, checkpoint_interval=1, refinement_iterations=0
    )
    latents = autoencoder.encode(target)
    begin = now(target.device)
    result = LatentOptimizer(config).optimize_batch(autoencoder, latents, target, check_range=False)[0]
    seconds = now(target.device) - begin
    work = config.warm_start * costs.encoder_step + extra + len(result.losses) * cheap
    return {"gain_db": result.metrics["psnr_improvement"], "work": work, "seconds": seconds}


def _row(key: Sequence[Any], found: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the means over photographs, and the least gain."""
    means = {name: round(statistics.mean(each[name] for each in found), 3) for name in found[0]}
    names = dict(zip(("start", "warm_start", "iterations"), key, strict=False))
    return names | means | {"least_db": round(min(each["gain_db"] for each in found), 3)}


def table(found: dict[str, Any]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| start | encoder steps | iterations | gain, least | work | s / image |", "| --- " * 6 + "|"]
    for row in found["rows"] + found["to_target"]:
        lines.append(
            f"| {row['start']} | {row['warm_start']} | {row.get('iterations', 'to the target')} | {row['gain_db']:+.2f}, "
            f"{row['least_db']:+.2f} dB | {row['work']:.2f} | {row['seconds']:.2f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    photograph_options(parser)
    parser.set_defaults(split="val")
    parser.add_argument("--train", type=Path, required=True, help="folder of photographs to tune on")
    parser.add_argument("--taef2", type=Path, help="folder with TAEF2's weights (default: the bundled decoder)")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target-gain", type=float, default=4.29, help="dB")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tuned encoder and the results")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    name = "taef2" if options.taef2 else "tiny"
    autoencoder = load_autoencoder(name, weights=options.taef2, device=options.device)
    path = options.out / "tuned_encoder.safetensors"
    if not path.exists():
        settings = TuningSettings(
            steps=options.steps, batch_size=options.batch_size, crop=options.crop, learning_rate=options.learning_rate,
            seed=options.seed,
        )  # fmt: skip
        crops = PhotographCrops(options.train)
        begin = now(autoencoder.device)
        module = tune(
            autoencoder, crops, settings, path.with_suffix(".checkpoint"), lambda line: print(line, file=sys.stderr)
        )
        facts = {
            "settings": asdict(settings),
            "crops": crops.describe(),
            "seconds": round(now(autoencoder.device) - begin),
        }
        write_tuned_encoder(path, autoencoder, module, facts)
        path.with_suffix(".checkpoint").unlink(missing_ok=True)
    module, facts = read_tuned_encoder(path, autoencoder)
    targets = load_targets(
        bsds500_folder(options.bsds500) / options.split, options.size, options.limit, autoencoder.device
    )
    found = measure(autoencoder, autoencoder.with_encoder(module), str(path), targets, options.target_gain)
    print(f"without an iteration {found['zero_iterations_db']['mean']:+.2f} dB", table(found), sep="\n")
    content = {
        "decoder": name, "split": options.split, "size": options.size, "images": len(targets), "target_gain": options.target_gain,
        "tuning": facts, **found,
    }  # fmt: skip
    command = command_line("research.tuned_encoder", arguments)
    print(
        write_result(f"tuned_encoder_{options.split}", autoencoder.device, command, content, options.out),
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    run_main(main)
