"""Section: a run of generated pictures through the batcher, whose slots are refilled: what a user's run does but writing.

The pictures are what Stable Diffusion's decoder with random weights makes of random latents, as PNG files; decoder and
encoder have its layers and random weights. Costs are real, decibels are those of this made-up problem.
"""

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ....engine.autoencoders.rewrite import FAST_REWRITES
from ....engine.inputs.prefetch import auto_workers, prefetch
from ....engine.inputs.sources import Source, discover
from ....engine.losses.metrics import to_uint8
from ....engine.optimization.batcher import Batcher
from ....engine.optimization.config import OptimizationConfig
from ....engine.records import Record
from ...bench_step import Problem
from ...profile import busy_microseconds, device_spans
from ...sd_decoder import widths
from ..section import Measurement, Rates, Result
from .encoder import SDEncoder

NEEDS_GPU = ""
MOST_SECONDS = 100.0  # of the measured pass; pictures that are left then are not counted
WISHED = 500  # pictures, extrapolated


def cells(quick: bool) -> list[tuple[str, float, dict[str, Any]]]:
    wanted = {"count": 5, "size": 32, "batch": 2} if quick else {"count": 200, "size": 512, "batch": 8}
    return [(f"{wanted['count']} generated pictures of {wanted['size']}²", 60.0, wanted)]


def prepare(device: torch.device, quick: bool, count: int, size: int, batch: int) -> Measurement:
    problem = Problem(device, quick)
    autoencoder = problem.autoencoder
    autoencoder.encoder = SDEncoder(*widths(quick)).to(device)
    autoencoder.rewrites = FAST_REWRITES
    folder = tempfile.TemporaryDirectory()
    make_pictures(problem, Path(folder.name), count, size)
    # ranks cannot be measured on random weights: the backward pass is exact
    short = {"iterations": 4, "refinement_iterations": 1} if quick else {}
    config = OptimizationConfig.from_dict({"gradient_error": 0.0} | short)
    batcher = Batcher(autoencoder, config, size, batch_size=batch, keep_images=False, capacity=count)
    _pass(batcher, Path(folder.name), min(batch, count))  # compiles

    def measurement(_rates: Rates) -> Result:
        more: Result = {"size": size, "config": config.to_dict(), "pictures": "generated"}
        if device.type == "cuda":  # first: a pass that was ended early cannot be followed by another
            more["profile"] = _profiled(batcher, Path(folder.name), min(3 * batch, count))
        batcher.seconds.clear()
        result = _pass(batcher, Path(folder.name), count)
        folder.cleanup()
        return result | more

    return measurement


def make_pictures(problem: Problem, folder: Path, count: int, size: int) -> None:
    """Write `count` PNG files; their latents differ in strength and in smoothness, so that they take different times."""
    from PIL import Image

    generator = torch.Generator().manual_seed(2)
    for number in range(count):
        coarse = size // 8 // (1, 2, 4)[number % 3]
        latents = torch.randn(1, 4, coarse, coarse, generator=generator) * (0.5 + (number % 5) / 4)
        latents = torch.nn.functional.interpolate(latents, size=(size // 8, size // 8), mode="bilinear")
        with torch.no_grad():
            picture = problem.decoder(latents.to(problem.device)).clamp(-1.0, 1.0)
        pixels = to_uint8(picture[0]).permute(1, 2, 0).cpu().numpy()
        Image.fromarray(pixels).save(folder / f"{number:04}.png", compress_level=1)


def _pass(batcher: Batcher, folder: Path, count: int) -> Result:
    """Optimise the first `count` pictures; returns rates, shares by phase and gains, of those done in `MOST_SECONDS`."""

    def same(source: Source) -> Source:
        return source

    workers = auto_workers(batcher.autoencoder.device.type) if batcher.autoencoder.device.type == "cuda" else 0
    done: list[Record] = []
    begin = time.perf_counter()
    for record in _records(batcher, prefetch(batcher.reader, discover(folder, count), same, workers), count):
        done.append(record)
        if time.perf_counter() - begin > MOST_SECONDS:
            break
    seconds = time.perf_counter() - begin
    gains = [record.metrics["psnr_improvement"] for record in done]
    phases = {name: value / seconds for name, value in batcher.seconds.items()}
    return {
        "images": len(done), "asked_for": count, "seconds": seconds, "images_per_second": len(done) / seconds,
        f"seconds_for_{WISHED}_extrapolated": WISHED * seconds / len(done),
        "share_by_phase": phases | {"other": 1.0 - sum(phases.values())},
        "gain_db": {"mean": statistics.fmean(gains), "least": min(gains), "most": max(gains)},
        "start_db": statistics.fmean(record.metrics["initial_psnr"] for record in done),
        "mean_iterations": statistics.fmean(len(record.losses) for record in done),
        "stop_reasons": dict(Counter(record.stop_reason for record in done)),
        "engine": batcher.engine,
    }  # fmt: skip


def _records(batcher: Batcher, pictures: Iterator[Any], count: int) -> Iterator[Record]:
    for outcomes in batcher.batches(pictures, count):
        for outcome in outcomes:
            if not isinstance(outcome, Record):
                raise RuntimeError(f"a picture failed: {outcome}")
            yield outcome


def _profiled(batcher: Batcher, folder: Path, count: int) -> Result:
    """Return the share of the time of a shorter pass in which the GPU is busy, filling and emptying of slots included."""
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        found = _pass(batcher, folder, count)
        torch.cuda.synchronize()
    spans = device_spans(trace)
    return {"images": found["images"], "gpu_busy_share": busy_microseconds(spans) / 1e6 / found["seconds"]}
