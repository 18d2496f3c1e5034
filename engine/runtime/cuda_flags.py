"""Scoped settings of CUDA's libraries. They are the process's or the thread's own and are put back; on other devices they change
nothing."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

T = TypeVar("T")


@contextlib.contextmanager
def exact_fp32() -> Iterator[None]:
    """Compute fp32 convolutions and products in fp32, not in TF32, which keeps 10 bits of the mantissa and is torch's
    default for convolutions. As a context or as a decorator.

    torch has two interfaces for this and raises errors where they disagree. The older one is used first, because it sets
    both; where it cannot be read, because a caller has set the newer one alone, or does not suffice, the newer one.
    """
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    interfaces: tuple[tuple[Any, Any, Any, Any], ...] = (
        (cudnn.conv, lambda: cudnn.allow_tf32, lambda value: setattr(cudnn, "allow_tf32", value), False),
        (matmul, torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    )
    with contextlib.ExitStack() as restored:
        for newer, read, write, exact in interfaces:
            if newer.fp32_precision != "tf32":
                continue
            with contextlib.suppress(RuntimeError):
                restored.callback(write, read())
                write(exact)
            if newer.fp32_precision == "tf32":
                restored.callback(setattr, newer, "fp32_precision", "tf32")
                newer.fp32_precision = "ieee"
        yield


@contextlib.contextmanager
def tuned_convolutions() -> Iterator[None]:
    """Let cuDNN time its algorithms for each new convolution and keep the fastest, which it then also uses outside.

    A convolution is new if the thread has not run it before; what it ran untuned stays as it is.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def in_new_thread(function: Callable[[], T]) -> T:
    """Return function(), called in a thread of its own, its backward passes included.

    cuDNN remembers per thread which algorithm it has chosen for a convolution, tuned or not: a thread that has run one untuned
    never tunes it.
    """

    def run() -> T:
        with torch.autograd.set_multithreading_enabled(False):
            return function()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()
