"""A run over pictures of twelve aspect ratios in a trainer's buckets, beside a run of as many pixels in one size.

    python -m relatent.benchmarks.bench_sizes [--pictures 60] [--reso 512] [--iterations 5] [--passes 3] [--dry]

The pictures are crops of the bundled photographs, enlarged. Both runs alternate; the ratio of their iterations per
second, counted in megapixels, is taken pair by pair. Writes benchmarks/results/sizes-*.json; with --dry nothing.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..engine.autoencoders.autoencoder import Autoencoder
from ..engine.autoencoders.loading import load_autoencoder
from ..engine.inputs.sample_photographs import photographs
from ..engine.optimization.config import OptimizationConfig
from ..exporters.hdf5.reading import read_records
from ..factory.api import optimize_directory
from .results import command_line, run_main, write_result

RATIOS = ((1, 1), (4, 3), (3, 2), (16, 9), (2, 1), (5, 4), (3, 4), (2, 3), (9, 16), (1, 2), (4, 5), (21, 9))


def write_pictures(folder: Path, count: int, reso: int) -> None:
    """Write `count` pictures of the aspect ratios in turn, each of about reso² pixels."""
    sources = [Image.open(path).convert("RGB") for path in photographs()]
    for number in range(count):
        wide, tall = RATIOS[number % len(RATIOS)]
        height = round(reso * (tall / wide) ** 0.5)
        width = round(height * wide / tall)
        source = sources[number % len(sources)]
        scale = min(source.width / width, source.height / height)
        box = (0, 0, width * scale, height * scale)
        source.resize((width, height), Image.Resampling.BICUBIC, box=box).save(folder / f"{number:03d}.png")


def measure(autoencoder: Autoencoder, pictures: Path, out: Path, **options: Any) -> dict[str, float]:
    """Run over the pictures, and return megapixels times iterations per second of optimising, and the mean gain in dB."""
    run = optimize_directory(pictures, out, autoencoder, keep_images=False, **options)
    work = 0.0
    for records in read_records(out / "dataset.h5"):
        for record in records:
            cells = record.optimized_latents.shape[1] * record.optimized_latents.shape[2]
            work += len(record.losses) * cells * (autoencoder.downscale_factor or 1) ** 2 / 1e6
    gain = run["statistics"]["psnr_improvement"]["mean"]
    return {"megapixel_iterations_per_second": work / run["seconds"]["optimize"], "gain_db": gain}


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--reso", type=int, default=512)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args(arguments)
    autoencoder = load_autoencoder("tiny")
    rule = f"sd-scripts:{options.reso},min={options.reso // 2},max={options.reso * 2},step={options.reso // 8}"
    config = OptimizationConfig(iterations=options.iterations)
    found: dict[str, list[dict[str, float]]] = {"buckets": [], "one size": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        write_pictures(folder / "in", options.pictures, options.reso)
        optimize_directory(folder / "in", folder / "warm", autoencoder, config=config, limit=1)
        for number in range(options.passes):
            for kind, size in (
                ("buckets", {"buckets": rule}),
                ("one size", {"size": options.reso}),
            ):
                out = folder / f"{kind}-{number}"
                found[kind].append(measure(autoencoder, folder / "in", out, config=config, **size))
        plan = (folder / "buckets-0" / "plan.jsonl").open().readline()
        sizes = [segment["size"] for segment in json.loads(plan)["segments"]]
    print(f"{len(sizes)} sizes by {rule}")
    key = "megapixel_iterations_per_second"
    ratios = [mixed[key] / one[key] for mixed, one in zip(found["buckets"], found["one size"], strict=True)]
    for kind, rows in found.items():
        speed, gain = (statistics.median(row[name] for row in rows) for name in (key, "gain_db"))
        print(f"{kind:10} {speed:8.3f} megapixel iterations/s, {gain:+.2f} dB")
    print(
        f"ratio, median of {len(ratios)} pairs: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )
    if not options.dry:
        content = {
            "pictures": options.pictures,
            "rule": rule,
            "sizes": sizes,
            "runs": found,
            "ratios": ratios,
            "autoencoder": autoencoder.name,
        }
        print(write_result("sizes", torch.device("cpu"), command_line("bench_sizes", arguments), content))


if __name__ == "__main__":
    run_main(main)
