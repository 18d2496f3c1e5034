"""The benchmark suite on one device: correctness, hardware ceilings, kernels, all forms of the iteration, memory, a
profile.

    relatent bench [--out DIR] [--minutes 8]            where relatent is installed
    python -m benchmarks.gpu [--out DIR] [--minutes 8]  in a clone, with only torch, Triton, numpy, h5py and pytest

The most important measurements come first; those that do not fit into the time limit are listed as not measured. Writes
gpu-<hardware>.json into DIR and prints a table.
"""

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..engine.runtime.device import resolve_device
from ..kernels.library import runs_on
from . import bench_kernels, bench_step
from .profile import busy_share, layers
from .results import write_result
from .sd_decoder import gradient_flops
from .timing import ceilings

logger = logging.getLogger(__name__)

DATASHEET = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # Dense bf16 FLOP/s according to NVIDIA's data sheets.
# (size, batch, decoder, forms), the most informative first: each compilation takes most of a minute.
PLAN = [
    (512, 8, "rewritten", ("eager", "compiled", "captured")),
    (512, 1, "rewritten", ("eager", "compiled", "captured")),
    (1024, 1, "rewritten", ("eager", "captured")),
    (512, 8, "rewritten, norm kernel", ("compiled", "captured")),
    (512, 8, "rewritten, joined", ("compiled", "captured")),
    (512, 1, "rewritten, joined", ("compiled", "captured")),
    (512, 8, "as published", ("eager", "compiled")),
    (256, 1, "rewritten", ("eager", "captured")),
    (1024, 1, "recomputing", ("captured",)),
    (512, 1, "recomputing", ("captured",)),
    (512, 4, "rewritten", ("eager", "captured")),
    (512, 16, "rewritten", ("eager", "captured")),
    (1024, 4, "rewritten", ("eager", "captured")),
    (256, 8, "rewritten", ("eager", "captured")),
    (256, 16, "rewritten", ("eager", "captured")),
    (256, 4, "rewritten", ("eager", "captured")),
    (1024, 8, "rewritten", ("eager", "captured")),
    (1024, 16, "rewritten", ("eager", "captured")),
]
SMALL_PLAN = [(32, 2, "rewritten", ("eager", "compiled")), (32, 1, "recomputing", ("eager",))]


class Suite:
    """Runs sections as long as time is left, and records which ones were left out and why."""

    def __init__(
        self,
        device: torch.device,
        minutes: float,
        small: bool,
        save: Callable[[dict[str, Any]], object] = lambda _: None,
    ):
        """Start the time limit of so many minutes.

        save: called with all results so far after each section, so that an interrupted suite keeps them.
        """
        self.device, self.small, self.save = device, small, save
        self.deadline = time.monotonic() + 60 * minutes
        self.content: dict[str, Any] = {"not_measured": {}}

    def section(self, name: str, seconds: float, run: Callable[[], Any]) -> Any:
        """Store the result of `run()` under `name` if about `seconds` are left. An error ends this section only."""
        left = self.deadline - time.monotonic()
        if left < seconds:
            self.content["not_measured"][name] = f"{seconds:.0f} s wanted, {max(left, 0):.0f} s left"
            return None
        logger.info("%s (%.0f s left)", name, left)
        try:
            self.content[name] = run()
        except Exception as error:  # Whatever the error is, the remaining minutes on a GPU must not be lost.
            logger.exception("%s failed", name)
            self.content["not_measured"][name] = _reason(error)
            return None
        finally:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self.save(self.content)
        return self.content[name]

    def run(self) -> dict[str, Any]:
        """Run all sections, the most important first, and return the results."""
        rates = self.section("ceilings", 5, lambda: ceilings(self.device, self.small))
        problem = bench_step.Problem(self.device, self.small)
        forms = "captured" if self.device.type == "cuda" else "eager"
        self.section("equal_quality", 60, lambda: bench_step.equal_quality(problem, *self._quality_size(), forms))
        self.content["iterations"] = []
        originals = {
            size: self.section(f"original, {size}", 10, partial(bench_step.original_seconds, problem, size))
            for size in sorted({size for size, *_ in self._plan()})
        }
        self.section("kernels", 60, lambda: self._kernels(rates))
        self.section("layers", 10, lambda: layers(problem, *((32, 1) if self.small else (512, 8))))
        for size, batch, decoder, wanted in self._plan():
            cell = partial(self._cell, problem, size, batch, decoder, wanted, originals[size], rates)
            self.section(f"{size}², batch {batch}, {decoder}", 75, cell)
        return self.content

    def _plan(self) -> list[tuple[int, int, str, tuple[str, ...]]]:
        return SMALL_PLAN if self.small else PLAN

    def _quality_size(self) -> tuple[int, int]:
        return (32, 10) if self.small else (256, 50)

    def _kernels(self, rates: dict[str, float]) -> list[dict[str, Any]]:
        if not runs_on(self.device):
            raise RuntimeError("Triton's kernels need a GPU")
        found = []
        # Beyond its limit of eight recompilations dynamo would fall back to eager.
        with torch._dynamo.config.patch(recompile_limit=256):
            for cell in bench_kernels.cells(self.device, self.small):
                try:
                    found.append(bench_kernels.row(cell, self.device, rates["copy_bytes_per_second"]))
                except RuntimeError as error:  # Wrong or out of memory; the other operations are still measured.
                    name = f"{cell.name} {'×'.join(map(str, cell.shape))}"
                    self.content["not_measured"][name] = _reason(error)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
        return found

    def _cell(
        self, problem: bench_step.Problem, size: int, batch: int, decoder: str, wanted: tuple[str, ...],
        original: float | None, rates: dict[str, float],
    ) -> str:  # fmt: skip
        flops = sum(gradient_flops(problem.decoder, 1, size))
        cuda = self.device.type == "cuda"
        if cuda:  # A replay allocates nothing: the memory of a graph is what its capture allocated.
            torch.cuda.reset_peak_memory_stats(self.device)
        for form, runner in bench_step.forms(problem, decoder, batch, size, wanted):
            seconds = bench_step.iteration_seconds(runner, self.device)
            rate = batch * flops / seconds["median"]
            row: dict[str, Any] = {
                "size": size, "batch": batch, "decoder": decoder, "form": form, "seconds": seconds,
                "seconds_per_image": seconds["median"] / batch, "compile_seconds": runner.compile_seconds,
                "nominal_flops_per_image": flops, "nominal_flops_per_second": rate,
                "share_of_matrix_rate": rate / rates["bf16_flops_per_second"],
            }  # fmt: skip
            if original is not None:
                row["times_the_original"] = original * batch / seconds["median"]
            if cuda:
                row["peak_allocated_bytes"] = torch.cuda.max_memory_allocated(self.device)
                row["reserved_bytes"] = torch.cuda.memory_reserved(self.device)
                name = torch.cuda.get_device_name(self.device)
                known = next((value for key, value in DATASHEET.items() if key in name), None)
                if known:
                    row["share_of_datasheet"] = rate / known
            self.content["iterations"].append(row)
            if cuda and form == "captured":  # The profile comes last, so that an error in it does not lose the timing.
                row |= busy_share(runner, bench_step.PER_REPLAY, self.device)
            if cuda:
                torch.cuda.reset_peak_memory_stats(self.device)
        return "done"


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def table(content: dict[str, Any]) -> str:
    """Return the results as Markdown: kernels, then iterations."""
    lines = []
    if content.get("kernels"):
        lines += [
            "| kernel | shape | kernel | inductor | eager | of copy bandwidth |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for row in content["kernels"]:
            cells = [
                f"{row['seconds'][who]['median'] * 1e6:.0f} µs" if who in row["seconds"] else "–"
                for who in ("kernel", "inductor", "reference")
            ]
            share = row.get("copy_share", {}).get("kernel")
            lines.append(
                f"| {row['operation']} | {'×'.join(map(str, row['shape']))} | {' | '.join(cells)} | {f'{share:.0%}' if share else '–'} |"
            )
        lines.append("")
    lines += [
        "| size | batch | decoder | form | ms / image | × original | of matrix rate | peak |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in content["iterations"]:
        times = f"{row['times_the_original']:.1f}" if "times_the_original" in row else "–"
        peak = f"{row['peak_allocated_bytes'] / 2**30:.2f} GiB" if "peak_allocated_bytes" in row else "–"
        lines.append(
            f"| {row['size']}² | {row['batch']} | {row['decoder']} | {row['form']} | {row['seconds_per_image'] * 1e3:.2f} "
            f"| {times} | {row['share_of_matrix_rate']:.0%} | {peak} |"
        )
    quality = content.get("equal_quality")
    if quality:
        lines += [
            "",
            f"At equal iterations: the original {quality['original_gain_db']:+.2f} dB, relatent {quality['relatent_gain_db']:+.2f} dB.",
        ]
    lines += [f"Not measured: {name}: {reason}" for name, reason in content["not_measured"].items()]
    return "\n".join(lines)


def run_suite(out: Path, device_name: str, minutes: float, small: bool) -> tuple[dict[str, Any], Path]:
    """Run the suite; return the results and the file that they were written to."""
    device = resolve_device(device_name)
    command = f"python -m benchmarks.gpu --minutes {minutes:g}" + (" --small" if small else "")

    def save(content: dict[str, Any]) -> Path:
        name = "gpu" if device.type == "cuda" else "suite"
        return write_result(name, device, command, _without_nan(content), out)

    content = Suite(device, minutes, small, save).run()
    return content, save(content)


def _without_nan(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
