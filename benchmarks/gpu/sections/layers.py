"""Section: the milliseconds of each layer of Stable Diffusion's decoder as published, forward, eager, in bf16."""

from typing import Any

import torch

from ...bench_step import Problem
from ...profile import layers
from ..section import Measurement

NEEDS_GPU = ""


def cells(quick: bool) -> list[tuple[str, float, dict[str, Any]]]:
    size, batch = (32, 1) if quick else (512, 8)
    return [(f"{size}², batch {batch}", 5.0, {"size": size, "batch": batch})]


def prepare(device: torch.device, quick: bool, size: int, batch: int) -> Measurement:
    problem = Problem(device, quick)
    return lambda _rates: {"milliseconds": layers(problem, size, batch)}
