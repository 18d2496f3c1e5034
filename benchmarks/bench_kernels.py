"""Every kernel compared with its PyTorch reference, eager and compiled, and with the copy bandwidth.

pytest benchmarks/bench_kernels.py        on any machine; without a GPU only the reference is timed
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from relatent.benchmarks.timing import measure
from relatent.kernels import reference
from relatent.kernels.frozen_conv import frozen_conv
from relatent.kernels.frozen_norm import frozen_norm
from relatent.kernels.fused_adam import fused_adam
from relatent.kernels.fused_loss import fused_loss
from relatent.kernels.group_norm_silu import group_norm_silu
from relatent.kernels.library import runs_on
from relatent.kernels.upsample_conv import phase_weight

NORMS = ((512, 64), (512, 128), (256, 256), (128, 512))  # Channels and side of the decoder's layers at 512².


@dataclass
class Cell:
    """One operation at one size: its implementations by name, and the minimal number of bytes to move."""

    name: str
    shape: tuple[int, ...]
    bytes: int | None
    functions: dict[str, Callable[[], Any]]
    tolerance: float  # Largest relative error, in norm, of each implementation's outputs against the reference's.
    # The tensors that are changed in place by implementations that return nothing.
    state: tuple[torch.Tensor, ...] = ()


def cells(device: torch.device, small: bool = False) -> Iterator[Cell]:
    """Yield the operations to measure. small: sizes for a test, instead of tensors larger than any L2 cache and the
    decoder's layers.
    """
    yield _loss((2, 3, 32, 32) if small else (64, 3, 1024, 1024), device)
    yield _adam((2, 4, 8, 8) if small else (256, 4, 256, 256), device)
    for channels, side in ((32, 8),) if small else NORMS:
        for batch in (1,) if small else (1, 8):
            yield from _norm((batch, channels, side, side), device)
    if device.type == "cpu":  # On other devices it is torch's own group_norm.
        for channels, side in ((12, 8),) if small else ((96, 128), (48, 256), (16, 256)):
            yield _frozen_norm((1, channels, side, side), device)
    for channels, side in ((16, 8),) if small else ((512, 64), (512, 128), (256, 256)):
        yield from _upsample((1 if small else 8, channels, side, side), device)


def _random(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    x = torch.randn(shape, device=device, dtype=dtype) * 0.7
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


def _implementations(
    kernel: Callable[..., Any], plain: Callable[..., Any], device: torch.device, *arguments: Any, **options: Any
) -> dict[str, Callable[[], Any]]:
    compiled = torch.compile(plain, dynamic=False)
    found: dict[str, Callable[[], Any]] = {
        "reference": lambda: plain(*arguments, **options), "inductor": lambda: compiled(*arguments, **options)
    }  # fmt: skip
    if runs_on(device):
        found["kernel"] = lambda: kernel(*arguments, **options)
    return found


def _loss(shape: tuple[int, ...], device: torch.device) -> Cell:
    decoded, target = _random(shape, device), _random(shape, device, torch.float32).clamp_(-1, 1)
    bytes_moved = decoded.numel() * (2 + 4 + 2)
    functions = _implementations(fused_loss, reference.fused_loss_reference, device, decoded, target, scale=4096.0)
    return Cell("fused_loss", shape, bytes_moved, functions, 5e-3)


def _adam(shape: tuple[int, ...], device: torch.device) -> Cell:
    def flat(dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    count = shape[0]
    tensors = [flat(), flat(torch.bfloat16), flat(), flat().square(), flat(), flat(torch.bfloat16)]
    best = torch.zeros(count, device=device)
    flags = {
        "loss": torch.ones(count, device=device), "improved": torch.ones(count, dtype=torch.bool, device=device),
        "active": torch.ones(count, dtype=torch.bool, device=device),
        "step": torch.full((count,), 3, dtype=torch.int32, device=device),
        "learning_rate": torch.full((count,), 1e-3, device=device), "gradient_scale": torch.ones(count, device=device),
        "beta1": torch.full((count,), 0.7, device=device), "bias_correction1": torch.full((count,), 0.6, device=device),
        "eps": torch.full((count,), 1e-8, device=device),
    }  # fmt: skip
    # Reads of gradient, z, m, v; writes of z, m, v, the best latent, and the copy in the decoder's dtype.
    bytes_moved = tensors[0].numel() * (2 + 12 + 12 + 4 + 2)
    functions = _implementations(fused_adam, reference.fused_adam_reference, device, *tensors, best, **flags, beta2=0.9)
    return Cell("fused_adam", shape, bytes_moved, functions, 5e-3, state=(tensors[0], *tensors[2:], best))


def _norm(shape: tuple[int, ...], device: torch.device) -> Iterator[Cell]:
    x, grad_output = _random(shape, device).requires_grad_(True), _random(shape, device)
    weight, bias = _random((shape[1],), device) + 1, _random((shape[1],), device)
    groups = 32 if shape[1] % 32 == 0 else 4
    elements = x.numel()

    def forward(function: Callable[..., Any]) -> Callable[[], torch.Tensor]:
        def call() -> torch.Tensor:
            with torch.no_grad():
                return function(x, weight, bias, groups)[0]

        return call

    def backward(function: Callable[..., Any]) -> Callable[[], torch.Tensor]:
        y = function(x, weight, bias, groups)[0]
        return lambda: torch.autograd.grad(y, x, grad_output, retain_graph=True)[0]

    by = {"reference": reference.group_norm_silu_reference}
    by["inductor"] = torch.compile(reference.group_norm_silu_reference, dynamic=False)
    if runs_on(device):
        by["kernel"] = group_norm_silu
    yield Cell("group_norm_silu", shape, elements * 2 * 3, {name: forward(f) for name, f in by.items()}, 1e-2)
    yield Cell("group_norm_silu, gradient", shape, elements * 2 * 5, {n: backward(f) for n, f in by.items()}, 2e-2)


def _frozen_norm(shape: tuple[int, ...], device: torch.device) -> Cell:
    x, grad_output = _random(shape, device).requires_grad_(True), _random(shape, device)
    weight, bias = _random((shape[1],), device) + 1, _random((shape[1],), device)
    outcomes = {"reference": F.group_norm(x, 4, weight, bias), "kernel": frozen_norm(x, weight, bias, 4)}
    functions: dict[str, Callable[[], Any]] = {
        name: partial(torch.autograd.grad, y, x, grad_output, retain_graph=True) for name, y in outcomes.items()
    }
    return Cell("frozen_norm, gradient", shape, x.numel() * 2 * 3, functions, 2e-2)


def _upsample(shape: tuple[int, ...], device: torch.device) -> Iterator[Cell]:
    x = _random(shape, device).requires_grad_(True)
    channels = shape[1]
    weight = _random((channels, channels, 3, 3), device) * (0.5 / channels**0.5)
    phases = phase_weight(weight).contiguous(memory_format=torch.channels_last)
    grad_output = _random((shape[0], channels, 2 * shape[2], 2 * shape[3]), device)
    forwards: dict[str, Callable[[], torch.Tensor]] = {
        "reference": lambda: reference.upsample_conv_reference(x, weight),
        "kernel": lambda: frozen_conv(x, phases, stride=2, padding=1, transposed=True),
    }

    def backward(forward: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        y = forward()
        return lambda: torch.autograd.grad(y, x, grad_output, retain_graph=True)[0]

    yield Cell("upsample_conv", shape, None, forwards, 2e-2)
    yield Cell("upsample_conv, gradient", shape, None, {n: backward(f) for n, f in forwards.items()}, 2e-2)


def difference(cell: Cell, name: str) -> float:
    """Return the relative error, in norm, of what `name` returns or leaves in `state`, against the reference's."""
    expected, found = _outcome(cell, "reference"), _outcome(cell, name)
    return max(
        ((f.double() - e.double()).norm() / e.double().norm().clamp_min(1e-12)).item()
        for e, f in zip(expected, found, strict=True)
    )


def _outcome(cell: Cell, name: str) -> tuple[torch.Tensor, ...]:
    before = [tensor.clone() for tensor in cell.state]
    result = cell.functions[name]()
    if result is None:
        result = tuple(tensor.clone() for tensor in cell.state)
    for tensor, value in zip(cell.state, before, strict=True):
        tensor.copy_(value)
    return result if isinstance(result, tuple) else (result,)


def check(cell: Cell) -> dict[str, float]:
    """Return the error of each implementation against the reference. Raises `RuntimeError` where one is too large."""
    errors = {name: difference(cell, name) for name in cell.functions if name != "reference"}
    for name, error in errors.items():
        if not error <= cell.tolerance:
            raise RuntimeError(f"{cell.name} {cell.shape}: {name} differs by {error:.2e}")
    return errors


def row(cell: Cell, device: torch.device, copy_bandwidth: float) -> dict[str, Any]:
    """Return the seconds by implementation and the fraction of the copy bandwidth. Raises `RuntimeError` for wrong
    results.
    """
    result: dict[str, Any] = {"operation": cell.name, "shape": list(cell.shape), "difference": check(cell)}
    result["seconds"] = {name: measure(function, device) for name, function in cell.functions.items()}
    if cell.bytes is not None:
        result["bytes"] = cell.bytes
        result["copy_share"] = {
            name: cell.bytes / seconds["median"] / copy_bandwidth for name, seconds in result["seconds"].items()
        }
    return result


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


OPERATIONS = (
    "fused_loss", "fused_adam", "group_norm_silu", "group_norm_silu, gradient", "upsample_conv",
    "upsample_conv, gradient",
)  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS)
def test_kernel(benchmark: Any, operation: str) -> None:
    """Time the kernel with pytest-benchmark, or without a GPU its reference."""
    cell = next(cell for cell in cells(DEVICE, small=DEVICE.type == "cpu") if cell.name == operation)
    name = "kernel" if "kernel" in cell.functions else "reference"
    assert difference(cell, name) <= cell.tolerance
    benchmark.extra_info.update(operation=cell.name, shape=list(cell.shape), who=name)

    def call() -> None:
        cell.functions[name]()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    benchmark(call)
