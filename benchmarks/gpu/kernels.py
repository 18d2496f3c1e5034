"""Section: each of this project's kernels against PyTorch, the compiler and the copy bandwidth; see bench_kernels.py."""

from typing import Any

import torch

from ...kernels.library import INTERPRETED
from .. import bench_kernels
from .section import Measurement, Rates, Result

NEEDS_GPU = "" if INTERPRETED else "Triton's kernels need a GPU, or TRITON_INTERPRET=1"


def cells(quick: bool) -> list[tuple[str, float, dict[str, Any]]]:
    return [("against their references", 20.0, {})]


def prepare(device: torch.device, quick: bool) -> Measurement:
    errors: dict[str, str] = {}
    made = []
    with torch._dynamo.config.patch(recompile_limit=256):  # beyond it dynamo would fall back to eager
        for cell in bench_kernels.cells(device, quick):
            try:
                bench_kernels.check(cell)  # compiles
                made.append(cell)
            except RuntimeError as error:  # wrong, or out of memory
                errors[f"{cell.name} {cell.shape}"] = str(error).splitlines()[0]

    def measurement(rates: Rates) -> Result:
        bandwidth = rates["copy_bytes_per_second"] if rates else float("inf")
        with torch._dynamo.config.patch(recompile_limit=256):
            rows = [bench_kernels.row(cell, device, bandwidth) for cell in made]
        for row in rows:
            if "bytes" in row:
                row["bytes_per_second"] = {who: row["bytes"] / s["median"] for who, s in row["seconds"].items()}
        return {"rows": rows} | ({"error": "; ".join(f"{k}: {v}" for k, v in errors.items())} if errors else {})

    return measurement
