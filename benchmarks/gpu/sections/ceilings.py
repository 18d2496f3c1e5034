"""Section: what the device reaches, before and after everything else: bf16 matrix products, copies, and its clocks."""

import subprocess
from typing import Any

import torch

from ...timing import ceilings
from ..section import Measurement, Rates, Result

NEEDS_GPU = ""
CLOCKS = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")


def cells(quick: bool) -> list[tuple[str, float, dict[str, Any]]]:
    return [("first", 5.0, {})]


def prepare(device: torch.device, quick: bool) -> Measurement:
    def measurement(_rates: Rates) -> Result:
        before = query(CLOCKS)
        found: Result = dict(ceilings(device, quick, warm_seconds=0.0 if quick else 0.5))
        return found | {"clocks_before": before, "clocks_after": query(CLOCKS)}

    return measurement


def query(names: tuple[str, ...]) -> dict[str, str] | None:
    """Return what nvidia-smi says of the first GPU, or None where there is no nvidia-smi."""
    command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(names)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    return dict(zip(names, (value.strip() for value in done.stdout.splitlines()[0].split(",")), strict=False))
