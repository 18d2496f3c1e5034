"""Overhead of a run around its engine: images per second and peak memory of a whole run and of the engine alone.

    python -m relatent.benchmarks.bench_factory [--counts 2000 20000] [--repeats 3] [--batch-size 32] [--side 32]

Small synthetic images (PNG files) pass through a decoder of one layer, with the default settings, so that the cost of
everything but the engine shows: planning with a hash of every file, reading in worker processes, metrics, and shards
that are written, verified and flushed. "Engine alone" optimises the same images, decoded beforehand, in the same
batches, and discards the results. Each measurement is a process of its own; the two alternate, since the speed of a
shared machine drifts by more than they differ, and medians over the repeats are reported, of their ratio too. Writes
benchmarks/results/factory-*.json and the README's table.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..engine.autoencoders.loading import load_autoencoder
from ..engine.inputs.sources import discover
from ..engine.optimization.batcher import Batcher
from ..engine.optimization.config import OptimizationConfig
from ..engine.records import Record
from ..engine.runtime.device import usable_processors
from ..engine.runtime.memory import peak_memory
from ..factory.api import optimize_directory
from ..factory.state.plan import auto_shard_size
from .results import FOLDER, command_line, replace_table, run_main, write_result

CONFIG = OptimizationConfig(precision="fp32")  # The users' default settings, 50 iterations.


class PatchDecoder(nn.Module):
    """A decoder of one layer: every latent cell becomes a patch of 8×8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.ConvTranspose2d(4, 3, 8, stride=8)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.layer(latents)


def autoencoder() -> Any:
    """Return an autoencoder around `PatchDecoder`, whose encoder is the decoder's transpose."""
    decoder = PatchDecoder().requires_grad_(False)
    weight = decoder.layer.weight

    def encode(images: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(images, weight, stride=8)

    return load_autoencoder(decoder, encoder=encode, latent_channels=4, downscale_factor=8, name="patches")


def make_pictures(folder: Path, count: int, side: int) -> None:
    """Write `count` random PNG files that are smooth enough to compress, 1000 per subfolder."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        corners = rng.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(corners).resize((side, side), Image.Resampling.BILINEAR).save(path, compress_level=1)


def whole_run(folder: Path, out: Path, count: int, side: int, batch_size: int) -> dict[str, Any]:
    """Measure a run as users start it, but without a progress bar and without dataset.h5, which is written afterwards."""
    begin = time.perf_counter()
    record = optimize_directory(
        folder, out, autoencoder(), config=CONFIG, size=side, batch_size=batch_size, limit=count, formats=[]
    )
    seconds = record["seconds"]
    working = sum(seconds[phase] for phase in ("load", "encode", "compile", "optimize", "write"))
    return {
        "images": record["counts"]["done"],
        "seconds": time.perf_counter() - begin,
        "working_seconds": working,
        "phases": seconds,
        "idle_share": record["engine"]["idle_share"],
        "gain_db": record["statistics"]["psnr_improvement"]["mean"],
    }


def engine_alone(folder: Path, out: Path, count: int, side: int, batch_size: int) -> dict[str, Any]:
    """Measure the engine on the same images, which are decoded before the clock starts."""
    sources = discover(folder, count)
    size = auto_shard_size(len(sources))
    batcher = Batcher(autoencoder(), CONFIG, side, batch_size=batch_size, capacity=size)
    pictures = [batcher.reader.load(source) for source in sources]
    begin, done, gains = time.perf_counter(), 0, 0.0
    for start in range(0, len(pictures), size):
        part = pictures[start : start + size]
        for outcomes in batcher.batches(part, len(part)):
            done += len(outcomes)
            gains += sum(one.metrics["psnr_improvement"] for one in outcomes if isinstance(one, Record))
    seconds = time.perf_counter() - begin
    return {"images": done, "seconds": seconds, "working_seconds": seconds, "gain_db": gains / done}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| pictures | threads | | pictures / s (least to most) | of the engine's | engine idle | peak memory | gain |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        rates, memory = row["images_per_second"], row["peak_memory_bytes"] / 2**20
        share = f"{100 * row['of_engine_alone']:.0f} %" if "of_engine_alone" in row else ""
        idle = f"{100 * statistics.median(row['idle_share']):.0f} %" if row["idle_share"] else ""
        lines.append(
            f"| {row['images']} | {row['threads']} | {row['kind']} "
            f"| {statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f}) "
            f"| {share} | {idle} | {memory:.0f} MiB | {row['gain_db']:+.2f} dB |"
        )
    return "\n".join(lines)


KINDS = {"whole run": whole_run, "engine alone": engine_alone}


def measure(kind: str, folder: Path, threads: int, count: int, side: int, batch_size: int) -> dict[str, Any]:
    """Run one measurement in a new process, to obtain its own peak memory."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as out:
        values = [kind, folder, Path(out) / "out", threads, count, side, batch_size]
        command = [sys.executable, "-m", "relatent.benchmarks.bench_factory", "--child", *map(str, values)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure_alternately(
    folder: Path, threads: int, count: int, side: int, batch_size: int, repeats: int
) -> list[dict[str, Any]]:
    """Measure both kinds alternately and return one row per kind.

    Each row holds one value per repeat; the first one also the median ratio of the whole run's rate to the engine's.
    """
    turns = [{kind: measure(kind, folder, threads, count, side, batch_size) for kind in KINDS} for _ in range(repeats)]
    rows = []
    for kind in KINDS:
        found = [turn[kind] for turn in turns]
        rows.append(
            {
                "kind": kind,
                "threads": threads,
                "images": found[0]["images"],
                "images_per_second": [one["images"] / one["working_seconds"] for one in found],
                "seconds": [one["seconds"] for one in found],
                "phases": [one["phases"] for one in found if "phases" in one],
                "idle_share": [one["idle_share"] for one in found if "idle_share" in one],
                "gain_db": found[0]["gain_db"],
                "peak_memory_bytes": max(one["peak_memory_bytes"] for one in found),
            }
        )
    whole, alone = (row["images_per_second"] for row in rows)
    rows[0]["of_engine_alone"] = statistics.median(a / b for a, b in zip(whole, alone, strict=True))
    return rows


def _child(kind: str, folder: str, out: str, threads: str, *numbers: str) -> int:
    torch.set_num_threads(int(threads))
    found = KINDS[kind](Path(folder), Path(out), *map(int, numbers))
    print(json.dumps(found | {"peak_memory_bytes": peak_memory(torch.device("cpu"))}))
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--repeats", type=int, default=3, help="turns of each")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--results", type=Path, default=FOLDER)
    parser.add_argument("--child", nargs=7, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        return _child(*options.child)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "pictures"
        make_pictures(folder, max(options.counts), options.side)
        for threads, count in product(dict.fromkeys([1, usable_processors()]), options.counts):
            rows += measure_alternately(folder, threads, count, options.side, options.batch_size, options.repeats)
            print(table(rows[-len(KINDS) :]), flush=True)
    content = {
        "batch_size": options.batch_size,
        "side": options.side,
        "repeats": options.repeats,
        "config": CONFIG.to_dict(),
        "rows": rows,
    }
    print(
        write_result(
            "factory", torch.device("cpu"), command_line("bench_factory", arguments), content, options.results
        ),
        file=sys.stderr,
    )
    if options.results == FOLDER:
        replace_table("factory", table(rows))
    return 0


if __name__ == "__main__":
    run_main(main)
