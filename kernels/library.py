"""Registration of kernels as operators that torch.compile, autograd and `opcheck` understand.

On a GPU an operator is a `torch.library.triton_op`, into which the compiler can look. Under Triton's interpreter
(TRITON_INTERPRET=1), which runs kernels on CPU tensors for tests, it is an opaque `custom_op` of the same name and
body.
"""

import os
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import torch
from torch.library import custom_op, triton_op, wrap_triton

try:
    import triton
    import triton.language as tl

    jit = triton.jit
# torch for macOS and Windows comes without Triton; then only the PyTorch reference implementations are available.
except ImportError:
    triton = None
    tl = SimpleNamespace(constexpr=None)

    def jit(function: Callable[..., Any]) -> Callable[..., Any]:
        return function


INTERPRETED = triton is not None and os.environ.get("TRITON_INTERPRET") == "1"

_tracing: ContextVar[bool] = ContextVar("tracing", default=False)


def kernel_op(name: str, mutates_args: Iterable[str] = ()) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that registers a function as the operator `relatent::name`.

    The function allocates its outputs and launches kernels with `launch`.
    """

    def register(function: Callable[..., Any]) -> Any:
        qualified = f"relatent::{name}"
        if not INTERPRETED:
            return triton_op(qualified, function, mutates_args=mutates_args)
        operation = custom_op(qualified, function, mutates_args=mutates_args)

        def shapes_only(*arguments: Any) -> Any:
            token = _tracing.set(True)
            try:
                return function(*arguments)
            finally:
                _tracing.reset(token)

        operation.register_fake(shapes_only)
        return operation

    return register


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run `kernel` over `grid`; do nothing while only shapes are traced."""
    if not INTERPRETED:
        wrap_triton(kernel)[grid](*arguments, **constants)
    elif not _tracing.get():
        kernel[grid](*arguments, **constants)


def runs_on(device: torch.device) -> bool:
    """Return whether the Triton kernels can run on tensors of `device`."""
    return triton is not None and (device.type == "cuda" or (INTERPRETED and device.type == "cpu"))


def channels_last(rank: int) -> torch.memory_format:
    """The memory format of tensors (B, C, *spatial) of that rank whose channels lie beside each other: convolutions are
    fastest in it. Contiguous for ranks that have no such format."""
    return {4: torch.channels_last, 5: torch.channels_last_3d}.get(rank, torch.contiguous_format)


def require(condition: bool, message: str) -> None:
    """Raise `ValueError(message)` unless `condition`."""
    if not condition:
        raise ValueError(message)


def require_device(tensor: torch.Tensor, operation: str) -> None:
    """Raise `ValueError` where Triton cannot run on the tensor's device."""
    require(
        runs_on(tensor.device),
        f"{operation}: needs a CUDA tensor, found one on {tensor.device}; use {operation}_reference there",
    )


def require_like(operation: str, like: torch.Tensor, **tensors: torch.Tensor) -> None:
    """Raise `ValueError` unless each tensor has the shape, strides and device of `like`."""
    for name, tensor in tensors.items():
        expected = (tuple(like.shape), tuple(like.stride()), like.device)
        found = (tuple(tensor.shape), tuple(tensor.stride()), tensor.device)
        require(expected == found, f"{operation}: {name} must have shape, strides, device {expected}, found {found}")


def blocks(count: int, size: int) -> int:
    """Return the number of blocks of `size` that cover `count` elements."""
    return -(-count // size)
