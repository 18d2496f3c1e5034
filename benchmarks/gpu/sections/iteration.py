"""Section: one iteration of Stable Diffusion's decoder in each form, its peak memory and the time of its kernels.

Each cell is a process of its own, so that peak memory is that of a fresh allocator, and compiled code of one form is
made beside that of others. In each, the original's eager loop and the eager bf16 loop are timed in turn with the form, so
that every ratio is one of neighbours.
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch

from ....engine.optimization.runners import CapturedRunner, CompiledRunner, EagerRunner, Runner
from ...bench_loop import decoded_psnr
from ...bench_step import DECODERS, ENDLESS, PER_REPLAY, Problem
from ...peers import ORIGINAL, original_loop, run_original
from ...profile import busy_share
from ...sd_decoder import gradient_flops
from ...timing import alternate, quantiles
from ..section import Measurement, Rates, Result
from .decoders import impose_ranks
from .kernel_bytes import counted, kernel_bytes

NEEDS_GPU = ""
ITERATIONS = 20  # for the gains in dB
FEW = 2  # iterations of the slow loops for one time
# name -> decoder of bench_step, whether compiled, captured, and thinned
FORMS: dict[str, tuple[str, bool, bool, bool]] = {
    "production": ("production", True, True, False),
    "production, thinned": ("production", True, True, True),
    "compiled as published": ("as published", True, False, False),
    "compiled and captured, the compiler's norm": ("rewritten", True, True, False),
    "captured, ATen's norm": ("rewritten", False, True, False),
    "recomputing": ("recomputing", False, True, False),
}
SIZES: dict[tuple[int, int], tuple[str, ...]] = {  # side and batch -> forms; each that is compiled takes a minute
    (512, 1): tuple(FORMS),
    (512, 8): tuple(FORMS)[:5],
    (1024, 1): ("production", "compiled as published", "recomputing"),
    (256, 1): ("production", "compiled as published"),
}


def cells(quick: bool) -> list[tuple[str, float, dict[str, Any]]]:
    sizes = {(32, 1): ("production", "production, thinned", "recomputing")} if quick else SIZES
    return [
        (f"{size}², batch {batch}, {form}", 15.0 if batch * size > 512 else 7.0, {"size": size, "batch": batch, "form": form})
        for (size, batch), forms in sizes.items()
        for form in forms
    ]  # fmt: skip


def prepare(device: torch.device, quick: bool, size: int, batch: int, form: str) -> Measurement:
    cuda = device.type == "cuda"
    decoder, compiled, captured, thinned = FORMS[form]
    problem = Problem(device, quick)
    low_rank = impose_ranks(problem.decoder, DECODERS[decoder][0]) if thinned else None
    slots, step = problem.slots(decoder, "bf16", batch, size, low_rank=low_rank)
    runner: Runner = EagerRunner(step, slots)
    if compiled and cuda:
        with counted():
            runner = CompiledRunner(step, slots)

    def measurement(rates: Rates) -> Result:
        chosen = runner
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            if captured and not isinstance(runner, CapturedRunner):
                chosen = CapturedRunner(runner, PER_REPLAY)
            chosen.run(PER_REPLAY)
        result: Result = {"size": size, "batch": batch, "form": form, "runs": type(chosen).__name__}
        result |= {"compile_seconds": chosen.compile_seconds, "thinned": thinned}
        if cuda:
            result["peak_allocated_bytes"] = torch.cuda.max_memory_allocated(device)
            result["reserved_bytes"] = torch.cuda.memory_reserved(device)
        result |= _seconds(problem, chosen, size, batch, rates)
        if thinned:
            result["gain_db"] = "not measured: the ranks are imposed, the gradient is not one to follow"
        else:
            result |= _gains(problem, chosen, size, batch)
        if cuda and decoder == "production":  # last: an error in it must not lose the timing
            result |= _profile(chosen, device)
        return result

    return measurement


def _seconds(problem: Problem, runner: Runner, size: int, batch: int, rates: Rates) -> Result:
    """Time an iteration in turn with one of the original's loop (one picture) and one of the eager bf16 loop (the batch)."""
    slots, step = problem.slots("as published", "bf16", batch, size)
    eager = EagerRunner(step, slots)
    latents, targets = problem.batch(1, size)
    functions: dict[str, Callable[[], object]] = {
        "this": lambda: runner.run(PER_REPLAY),
        "original": lambda: original_loop(problem.decoder, latents, targets, 1e-3, FEW),
        "eager bf16": lambda: eager.run(FEW),
    }
    seconds = alternate(functions, problem.device)
    if not bool(runner.slots.active.all()):
        raise RuntimeError("a picture stopped while it was being timed")
    this, original, plain = (
        [value / count for value in seconds[name]]
        for name, count in (("this", PER_REPLAY), ("original", FEW), ("eager bf16", FEW))
    )
    flops = sum(gradient_flops(problem.decoder, 1, size))
    rate = batch * flops / statistics.median(this)
    result: Result = {
        "seconds": quantiles(this), "seconds_per_image": statistics.median(this) / batch,
        "original_seconds_per_image": quantiles(original), "eager_bf16_seconds": quantiles(plain),
        "times_the_original": quantiles([batch * o / t for o, t in zip(original, this, strict=True)]),
        "times_eager_bf16": quantiles([p / t for p, t in zip(plain, this, strict=True)]),
        "nominal_flops_per_image": flops, "nominal_flops_per_second": rate,
    }  # fmt: skip
    return result | ({"share_of_matrix_rate": rate / rates["bf16_flops_per_second"]} if rates else {})


def _gains(problem: Problem, runner: Runner, size: int, batch: int) -> Result:
    """Return the gain of the first picture in dB after `ITERATIONS`, and that of the original at its published rate."""
    latents, targets = problem.batch(batch, size)
    runner.slots.load(list(range(batch)), latents, targets, ENDLESS)
    runner.run(ITERATIONS)
    relative = ORIGINAL["original, published"][0]
    original = run_original(problem.decoder, latents[:1], targets[:1], relative, ITERATIONS)
    with torch.no_grad():
        ends = (latents[:1], runner.slots.to_latents(runner.slots.latents)[:1], original)
        start, this, theirs = (decoded_psnr(problem.autoencoder, end, targets[:1]) for end in ends)
    return {"gain_db": this - start, "original_gain_db": theirs - start, "gain_iterations": ITERATIONS}


def _profile(runner: Runner, device: torch.device) -> Result:
    """Return GPU utilisation, and the time of the kernels that take longest, with bytes per second where they are counted."""
    try:
        found = busy_share(runner, PER_REPLAY, device, replays=2)
    except Exception as error:
        return {"profile_error": f"{type(error).__name__}: {error}"}
    sizes, calls = kernel_bytes(), found.get("calls", {})
    speeds = {
        name: sizes[name] * calls[name] / (1e-3 * milliseconds)
        for name, milliseconds in found["kernels"].items()
        if name in sizes
    }
    return found | {"kernel_bytes_per_second": speeds}
