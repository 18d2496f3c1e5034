"""Experiment: gain from a small network, trained for one decoder, that adds a correction to Adam's first steps.

    python -m relatent.benchmarks.research.learned_step --bsds500 FOLDER [--taef2 FOLDER] [--updates 1800] [--limit 4]

The inputs of the network at each latent cell are the gradient at two scales, Adam's step, the previous step, the
displacement from the start, the latents, and the image with its error. It is trained on crops of the train split to
minimise the error after each step. The gain is reported on val, together with the engine's own Adam with and without its
encoder step, all in fp32. Writes benchmarks/results/learned_step-*.json and the table in docs/quality.md. The engine
does not use this network.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.inputs.sources import bsds500_folder
from ...engine.optimization.config import OptimizationConfig
from ...engine.optimization.loop import coordinates_of
from ...engine.optimization.presets import preset
from ...engine.optimization.slots import Slots
from ...engine.runtime.device import resolve_precision
from ..bench_loop import load_decoders, load_targets
from ..results import FOLDER, command_line, replace_table, run_main, write_result
from ..timing import now
from .evaluation_counter import EvaluationCounter, Run, count_costs, mean_gains
from .quality import PAGE, run_preset

POINTS = (1.1, 2.1, 3.1, 6.25, 10, 15, 25)  # Amounts of work at which gains are listed.
ITERATIONS = 25
SOURCE, CROP, BATCH = 320, 128, 8  # In pixels: sides of a training photograph and of a crop; and crops per batch.
SIGNALS = 6  # Number of input maps of C channels each.
OUTPUT_UNIT = 0.1  # In σ: the unit of the network's output.


class LearnedStep(nn.Module):
    """Network that maps latent cells and pixels to a correction of Adam's step, in units of `OUTPUT_UNIT` σ.

    The last layer is initialised to zero, so that an untrained network changes nothing.
    """

    def __init__(self, channels: int, cell: int, steps: int, hidden: int = 48, blocks: int = 3):
        """Build the network.

        cell: pixels per latent cell.
        steps: number of iterations that it corrects, each with a learned embedding.
        """
        super().__init__()
        self.cell, self.steps = cell, steps
        self.signals = nn.Conv2d(SIGNALS * channels, hidden, 3, padding=1)
        self.pixels = nn.Conv2d(2 * 3 * cell * cell, hidden, 1)
        self.step = nn.Embedding(steps, hidden)
        last = [nn.Conv2d(hidden, hidden, 3, padding=1) for _ in range(blocks)]
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Conv2d(hidden, hidden, 3, padding=1), nn.SiLU(), layer) for layer in last
        )
        self.head = nn.Conv2d(hidden, channels, 3, padding=1)
        nn.init.normal_(self.step.weight, std=0.02)
        for layer in (self.head, *last):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, signals: torch.Tensor, pixels: torch.Tensor, step: int) -> torch.Tensor:
        """Return the correction (B, C, h, w).

        signals: (B, 6C, h, w). pixels: (B, 6, H, W). step: the iteration, from 0.
        """
        hidden = self.signals(signals) + self.pixels(F.pixel_unshuffle(pixels, self.cell))
        hidden = hidden + self.step.weight[step].view(1, -1, 1, 1)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.head(F.silu(hidden))


class Search:
    """The engine's Adam on a batch in whitened coordinates w, z = start + P·w, with or without a network."""

    def __init__(self, autoencoder: Autoencoder, start: torch.Tensor, targets: torch.Tensor):
        self.config = OptimizationConfig()
        coordinates = coordinates_of(autoencoder, tuple(start.shape[1:]), self.config.precondition)
        self.slots = Slots.empty(start, targets, self.config, torch.float32, coordinates=coordinates)
        self.slots.load(list(range(len(start))), start, targets, self.config)
        self.mean, self.square, self.moved = (torch.zeros_like(start) for _ in range(3))
        self.correction, self.step = 0.0, 0

    @property
    def latents(self) -> torch.Tensor:
        """The current latents z, (B, C, h, w)."""
        return self.slots.to_latents(self.slots.latents)

    def change(
        self, gradient: torch.Tensor, pictures: torch.Tensor, network: LearnedStep | None = None
    ) -> torch.Tensor:
        """Return the next step in the coordinates, from their gradient and D(z); in a network's steps it carries an
        autograd graph.
        """
        config, rate = self.config, _per_image(self.slots.learning_rate)
        beta = config.betas[0] - (config.betas[0] - config.initial_beta) * max(0.0, 1.0 - self.step / config.beta_rise)
        self.mean = torch.lerp(gradient, self.mean, beta)
        self.square = torch.lerp(gradient.square(), self.square, config.betas[1])
        self.correction = beta * self.correction + 1.0 - beta
        size = _per_image(gradient.flatten(1).square().mean(1).sqrt())
        scale = (self.square / (1.0 - config.betas[1] ** (self.step + 1))).sqrt() + config.relative_eps * size
        adam = self.mean / self.correction / scale
        change = -rate * adam
        if network is not None and self.step < network.steps:
            sigma, latents, targets = rate / config.relative_learning_rate, self.latents, self.slots.targets
            signals = [gradient / size, adam, gradient / scale]
            signals += [each / sigma for each in (8.0 * self.moved, 3.0 * (latents - self.slots.origin), latents)]
            error = pictures - targets
            error = error / _per_image(error.flatten(1).square().mean(1).sqrt())
            pixels = torch.cat([error, targets], 1)
            change = change + OUTPUT_UNIT * sigma * network(torch.cat(signals, 1), pixels, self.step)
        return change

    def advance(self, change: torch.Tensor) -> None:
        """Apply a step to the coordinates."""
        self.moved = change.detach()
        self.slots.latents.add_(self.moved)
        self.step += 1


def train(
    autoencoder: Autoencoder, photographs: Sequence[torch.Tensor], updates: int, steps: int, seed: int = 0
) -> LearnedStep:
    """Return a network for the first `steps` iterations, trained on photographs (1, 3, H, W).

    There is one update after each iteration. The training loss of a step is the logarithm of the error after it, whose
    gradient the next iteration computes anyway.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    precision = resolve_precision("auto", autoencoder.device)
    channels = autoencoder.encode(photographs[0]).shape[1]
    network = LearnedStep(channels, autoencoder.downscale_factor or 8, steps).to(autoencoder.device)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    begin, search = now(autoencoder.device), None
    for update in range(1, updates + 1):
        if search is None or search.step == steps:
            targets = crops(photographs, generator)
            search = Search(autoencoder, autoencoder.encode(targets), targets)
            gradient, pictures, error = _evaluate(autoencoder, search, precision)
            first = error
        change = search.change(gradient, pictures, network)
        search.advance(change)
        gradient, pictures, error = _evaluate(autoencoder, search, precision)
        (gradient / _per_image(error) * change).sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        average.update_parameters(network)
        if update % 300 == 0:
            gain = 10.0 * (first / error).log10().mean().item()
            seconds = now(autoencoder.device) - begin
            print(f"update {update}  {seconds:.0f} s  {gain:+.2f} dB by iteration {search.step}", file=sys.stderr)
    network.load_state_dict(average.module.state_dict())
    return network.eval().requires_grad_(False)


def crops(photographs: Sequence[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
    """Return random crops (B, 3, 128, 128): squares of at least 128 pixels, resized, rotated, mirrored, with permuted
    colour channels.
    """
    found = []
    for _ in range(BATCH):
        photograph = photographs[int(torch.randint(len(photographs), (), generator=generator))]
        longest = min(photograph.shape[2:])
        side = int(torch.randint(CROP, longest + 1, (), generator=generator))
        top, left = (int(torch.randint(length - side + 1, (), generator=generator)) for length in photograph.shape[2:])
        square = F.interpolate(
            photograph[:, :, top : top + side, left : left + side], (CROP, CROP), mode="bilinear", antialias=True
        )
        square = square.rot90(int(torch.randint(4, (), generator=generator)), (2, 3))
        square = square[:, torch.randperm(3, generator=generator)]
        found.append(square.flip(3) if torch.rand((), generator=generator) < 0.5 else square)
    return torch.cat(found)


def _evaluate(
    autoencoder: Autoencoder, search: Search, precision: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradient of ½‖D(z) − x‖² with respect to the coordinates (B, C, h, w), D(z), and the sum of squared
    errors (B,).
    """
    decoder = autoencoder.loop_decoder(precision)
    latents = search.latents.to(decoder.dtype).requires_grad_(True)
    pictures = decoder(latents)
    error = pictures.detach().float() - search.slots.targets
    (gradient,) = torch.autograd.grad(pictures, latents, error.to(pictures.dtype))
    return search.slots.coordinates.vjp(gradient.float()), pictures.detach().float(), error.square().flatten(1).sum(1)


def _per_image(values: torch.Tensor) -> torch.Tensor:
    return values.view(-1, 1, 1, 1)


def adam_with_network(counter: EvaluationCounter, network: LearnedStep) -> torch.Tensor:
    """Run Adam with a network on one photograph and return the latents; the network's operations are counted."""
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        channels, (height, width) = counter.start.shape[1], counter.start.shape[2:]
        network(counter.start.new_zeros(1, SIGNALS * channels, height, width), counter.target.repeat(1, 2, 1, 1), 0)
    search = Search(counter.autoencoder, counter.start, counter.target)
    while counter.affords():
        gradient, picture = counter.gradient(search.latents)
        with torch.no_grad():
            search.advance(search.change(search.slots.coordinates.vjp(gradient), picture, network))
        if search.step <= network.steps:
            counter.spend(flops.get_total_flops())
    return search.latents


def measure(
    autoencoder: Autoencoder, targets: Sequence[torch.Tensor], networks: Sequence[LearnedStep]
) -> list[dict[str, Any]]:
    """Return one row per search: mean gain in dB at `POINTS` of work."""
    costs = count_costs(autoencoder, targets[0])
    plain = preset(
        None, precision="fp32", iterations=ITERATIONS, convergence_threshold=0.0, warm_start=0, schedule="constant",
        gradient_error=0.0,
    )  # fmt: skip
    warm = replace(plain, warm_start=1)
    runs: dict[str, list[Run]] = {}
    for target in targets:
        for name, config in (("Adam", plain), ("Adam after an encoder step", warm)):
            runs.setdefault(name, []).append(run_preset(autoencoder, costs, config, target))
        for network in networks:
            counter = EvaluationCounter(autoencoder, target, costs, ITERATIONS)
            runs.setdefault(f"a network's help in {network.steps} steps", []).append(
                counter.finish(adam_with_network(counter, network))
            )
    return [
        {
            "search": name,
            "gain_db": [round(gain, 3) for gain in mean_gains(each, POINTS)],
            "least_db": round(min(run.gain_db for run in each), 2),
            "work": round(statistics.mean(run.work for run in each), 2),
        }
        for name, each in runs.items()
    ]


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        f"| decoder | search | gain by work {' | '.join(f'{point:g}' for point in POINTS)} |",
        "| --- " * (len(POINTS) + 2) + "|",
    ]
    for decoder, rows in results.items():
        for row in rows:
            cells = " | ".join(f"{gain:+.2f}" for gain in row["gain_db"])
            lines.append(f"| {decoder} | {row['search']} | {cells} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bsds500", type=Path, help="folder with train/ and val/ (default: $BSDS500_PATH)")
    parser.add_argument("--taef2", type=Path, help="folder with TAEF2's weights, to measure on it too")
    parser.add_argument("--updates", type=int, default=1800, help="of the network, an iteration of 8 crops each")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[6], help="first iterations that it helps in; each apart"
    )
    parser.add_argument("--size", type=int, default=256, help="of the photographs of val")
    parser.add_argument("--limit", type=int, default=4, help="photographs of val")
    parser.add_argument("--out", type=Path, help="for trials: write there, and leave the page as it is")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    folder = bsds500_folder(options.bsds500)
    decoders = load_decoders(options.taef2, options.device)
    device = decoders["tiny"].device
    photographs = load_targets(folder / "train", SOURCE, 10**6, device)
    targets = load_targets(folder / "val", options.size, options.limit, device)
    results = {}
    for name, autoencoder in decoders.items():
        print(f"{name}: learning", file=sys.stderr)
        networks = [train(autoencoder, photographs, options.updates, steps) for steps in options.steps]
        results[name] = measure(autoencoder, targets, networks)
    print(table(results))
    content = {
        "split": "val", "size": options.size, "images": len(targets), "updates": options.updates, "points": POINTS, "results": results,
    }  # fmt: skip
    command = command_line("research.learned_step", arguments)
    print(write_result("learned_step", device, command, content, options.out or FOLDER), file=sys.stderr)
    if options.out is None:
        replace_table("learned step", table(results), PAGE)
    return 0


if __name__ == "__main__":
    run_main(main)
