"""Section: each of this project's kernels against PyTorch, the compiler and the copy bandwidth; see bench_kernels.py."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from ....kernels.library import INTERPRETED
from ... import bench_kernels
from ..section import Measurement, Rates, Result

NEEDS_GPU = "" if INTERPRETED else "Triton's kernels need a GPU, or TRITON_INTERPRET=1"


def cells(quick: bool) -> list[tuple[str, float, dict[str, Any]]]:
    return [("against their references", 20.0, {})]


def prepare(device: torch.device, quick: bool) -> Measurement:
    for cell in _cells(device, quick):  # compiles; its tensors go, they would wait in memory for the measurement
        with contextlib.suppress(RuntimeError):  # which the measurement reports
            bench_kernels.check(cell)

    def measurement(rates: Rates) -> Result:
        bandwidth = rates["copy_bytes_per_second"] if rates else float("nan")
        rows, errors = [], []
        for cell in _cells(device, quick):
            try:
                row = bench_kernels.row(cell, device, bandwidth)
            except RuntimeError as error:  # wrong, or out of memory
                errors.append(f"{cell.name} {cell.shape}: {str(error).splitlines()[0]}")
                continue
            if "bytes" in row:
                row["bytes_per_second"] = {who: row["bytes"] / s["median"] for who, s in row["seconds"].items()}
            rows.append(row)
        return {"rows": rows} | ({"error": "; ".join(errors)} if errors else {})

    return measurement


def _cells(device: torch.device, quick: bool) -> Iterator[bench_kernels.Cell]:
    with torch._dynamo.config.patch(recompile_limit=256):  # beyond it dynamo would fall back to eager
        yield from bench_kernels.cells(device, quick)
