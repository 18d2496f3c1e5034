"""Registration of kernels as operators that torch.compile, autograd and `opcheck` understand.

On a GPU an operator is a `torch.library.triton_op`, into which the compiler can look. Under Triton's interpreter
(TRITON_INTERPRET=1), which runs kernels on CPU tensors for tests, it is an opaque `custom_op` of the same name and
body.
"""

import contextlib
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


class Operator:
    """A function that becomes the operator `relatent::name` when it is first called, or by `register_operators`.

    Registering at import would cost every process more than a second: torch imports its compiler for it. Only compiled
    code and CUDA use these operators.
    """

    def __init__(self, name: str, function: Callable[..., Any], mutates_args: Iterable[str], launches: bool):
        self.name, self.function, self.mutates_args, self.launches = name, function, mutates_args, launches
        self.autograd: tuple[Callable[..., Any], Callable[..., Any]] | None = None
        self.definition: Any = None

    def register_autograd(self, backward: Callable[..., Any], *, setup_context: Callable[..., Any]) -> None:
        """Make the operator differentiable, as `torch.library`'s method of the same name does."""
        self.autograd = backward, setup_context

    def register(self) -> None:
        """Register the operator with torch, once."""
        if self.definition is not None:
            return
        qualified = f"relatent::{self.name}"
        if self.launches and INTERPRETED:
            self.definition = custom_op(qualified, self.function, mutates_args=self.mutates_args)
            self.definition.register_fake(self._shapes_only)
        else:
            self.definition = triton_op(qualified, self.function, mutates_args=self.mutates_args)
        if self.autograd is not None:
            backward, setup_context = self.autograd
            self.definition.register_autograd(backward, setup_context=setup_context)

    def _shapes_only(self, *arguments: Any) -> Any:
        token = _tracing.set(True)
        try:
            return self.function(*arguments)
        finally:
            _tracing.reset(token)

    def __call__(self, *arguments: Any) -> Any:
        if self.definition is None:
            register_operators()  # all of them: one may call another by its name in torch.ops
        return self.definition(*arguments)


_operators: list[Operator] = []


def register_operators() -> None:
    """Register all operators whose modules were imported. To be called before torch.compile traces them."""
    for operator in _operators:
        operator.register()


def kernel_op(
    name: str, mutates_args: Iterable[str] = (), *, launches: bool = True
) -> Callable[[Callable[..., Any]], Operator]:
    """Return a decorator that makes a function the operator `relatent::name`.

    The function allocates its outputs and launches kernels with `launch`; without `launches` it is torch code alone, into
    which the compiler always looks.
    """

    def declare(function: Callable[..., Any]) -> Operator:
        operator = Operator(name, function, mutates_args, launches)
        _operators.append(operator)
        return operator

    return declare


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run `kernel` over `grid`, on the device of its tensors; do nothing while only shapes are traced."""
    if not INTERPRETED:
        with _device_of(next(x for x in arguments if isinstance(x, torch.Tensor))):
            wrap_triton(kernel)[grid](*arguments, **constants)
    elif not _tracing.get():
        kernel[grid](*arguments, **constants)


def _device_of(tensor: torch.Tensor) -> contextlib.AbstractContextManager[Any]:
    """Make the tensor's device the current one, on which Triton launches. While the compiler traces, tensors are stand-ins of
    a type of their own, and nothing is launched."""
    real = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    return torch.cuda.device_of(tensor) if real else contextlib.nullcontext()


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
    """Raise `ValueError` unless each tensor has the shape, strides and device of `like`. The strides of axes of size 1, which
    torch sets freely, do not count: with one channel, contiguous and channels-last tensors have the same values in the same places."""
    for name, tensor in tensors.items():
        expected, found = ((tuple(x.shape), tuple(x.stride()), x.device) for x in (like, tensor))
        same = like.shape == tensor.shape and like.device == tensor.device and all(
            size == 1 or ours == theirs
            for size, ours, theirs in zip(like.shape, like.stride(), tensor.stride(), strict=True)
        )  # fmt: skip
        require(same, f"{operation}: {name} must have shape, strides, device {expected}, found {found}")


def blocks(count: int, size: int) -> int:
    """Return the number of blocks of `size` that cover `count` elements."""
    return -(-count // size)
