"""Section: attention of one head of 512 channels, as torch's SDPA or written out, with its gradient and memory."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from ....engine.autoencoders.attention import attend
from ...timing import measure
from ..section import Measurement, Rates, Result

NEEDS_GPU = ""
HEAD = 512
TOLERANCE = 3e-2  # of the norm, in bf16, against fp32
Function = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def cells(quick: bool) -> list[tuple[str, float, dict[str, Any]]]:
    wanted = [(2, 8)] if quick else [(1, 512 // 8), (8, 512 // 8), (1, 256 // 8), (1, 1024 // 8)]
    return [(f"batch {batch}, {side}² tokens", 3.0, {"batch": batch, "side": side}) for batch, side in wanted]


def prepare(device: torch.device, quick: bool, batch: int, side: int) -> Measurement:
    functions: dict[str, Function] = {"sdpa": F.scaled_dot_product_attention, "explicit": explicit}
    shape = (batch, 1, side * side, 16 if quick else HEAD)
    query, key, value, gradient = (torch.randn(shape, device=device, dtype=torch.bfloat16) for _ in range(4))
    inputs = [tensor.requires_grad_(True) for tensor in (query, key, value)]
    if device.type == "cuda":
        functions["explicit, compiled"] = torch.compile(explicit, dynamic=False)
        functions["explicit, compiled"](*inputs)
        torch.autograd.grad(functions["explicit, compiled"](*inputs), inputs, gradient)

    def measurement(_rates: Rates) -> Result:
        expected = _both(
            F.scaled_dot_product_attention, [x.detach().float().requires_grad_() for x in inputs], gradient
        )
        rows: dict[str, Result] = {}
        for name, function in functions.items():
            row = rows[name] = {}
            try:
                row |= _measured(function, inputs, gradient, expected, device)
            except torch.OutOfMemoryError as error:
                row["error"] = str(error).splitlines()[0]
        wrong = [name for name, row in rows.items() if row.get("difference", 0.0) > TOLERANCE]
        return {"shape": shape, "rows": rows} | ({"error": f"{', '.join(wrong)}: off by too much"} if wrong else {})

    return measurement


def explicit(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The engine's own attention of one head, with the scale that its weights have; (B, 1, N, D) each."""
    scaled = query * (1.0 / math.sqrt(query.shape[-1]))
    return attend(scaled.squeeze(1), key.squeeze(1), value.squeeze(1)).unsqueeze(1)


def _both(function: Function, inputs: list[torch.Tensor], gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the output and the gradients of the three inputs."""
    output = function(*inputs)
    return output.detach(), *torch.autograd.grad(output, inputs, gradient.to(output.dtype))


def _measured(
    function: Function, inputs: list[torch.Tensor], gradient: torch.Tensor, expected: tuple[torch.Tensor, ...],
    device: torch.device,
) -> Result:  # fmt: skip
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    found = _both(function, inputs, gradient)
    row: Result = {
        "difference": max(((f.float() - e).norm() / e.norm()).item() for f, e in zip(found, expected, strict=True))
    }
    if device.type == "cuda":
        row["bytes"] = torch.cuda.max_memory_allocated(device) - before
    del found

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return function(*inputs)

    row["forward_seconds"] = measure(forward, device, repeats=10)
    row["forward_and_gradient_seconds"] = measure(partial(_both, function, inputs, gradient), device, repeats=10)
    return row
