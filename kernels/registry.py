"""The Triton kernels by name, each with an example signature, for the resource report in `resources.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import fused_adam, fused_loss, group_norm_kernels, group_norm_silu

_LOSS = dict(KIND=0, CLAMP=False, BYTES=False, WEIGHTED=False, LAST=True, BLOCK=fused_loss.BLOCK)
# 128 channels in 32 groups, as in the largest layers of the decoder.
_TILE = dict(GROUP=4, GROUP_P2=4, GROUPS=16, ROWS=64)
# s, shift, gradient and extra gradient, mean and 1/σ, weight and bias
_BACKWARD = ("*bf16",) * 4 + ("*fp32",) * 2 + ("*bf16",) * 2


@dataclass(frozen=True)
class Variant:
    """One compilation of a kernel: Triton type names of the pointers, in the order of the kernel's arguments, then of
    the integers and floats; and the values of its constants.
    """

    kernel: Callable[..., Any]
    types: tuple[str, ...]
    constants: dict[str, Any]


VARIANTS = {
    "fused_loss": Variant(
        fused_loss._fused_loss_kernel, ("*bf16", "*fp32", "*fp32", "*bf16", "*fp32", "*fp32", "i32", "i32", "i32", "fp32", "fp32", "fp32", "fp32"), _LOSS
    ),
    "fused_loss, uint8 target, weight": Variant(
        fused_loss._fused_loss_kernel, ("*bf16", "*u8", "*fp32", "*bf16", "*fp32", "*fp32", "i32", "i32", "i32", "fp32", "fp32", "fp32", "fp32"),
        _LOSS | dict(KIND=2, BYTES=True, WEIGHTED=True),
    ),
    "fused_adam": Variant(
        fused_adam._fused_adam_kernel,
        ("*fp32", "*bf16", "*fp32", "*fp32", "*fp32", "*bf16", "*fp32", "*fp32", "*i1", "*i1", "*fp32", "*fp32", "*fp32", "*fp32", "*fp32", "*fp32", "i32", "fp32"),
        dict(BLOCK=fused_adam.BLOCK),
    ),
    "group_norm_silu, statistics": Variant(
        group_norm_kernels._statistics_kernel, ("*bf16",) * 4 + ("*fp32",) * 2 + ("i32",) * 3, _TILE | dict(ADD=False, SHIFT=True, KEEP=False)
    ),
    "group_norm_silu, statistics of a sum": Variant(
        group_norm_kernels._statistics_kernel, ("*bf16",) * 4 + ("*fp32",) * 2 + ("i32",) * 3, _TILE | dict(ADD=True, SHIFT=True, KEEP=True)
    ),
    "group_norm_silu, merge": Variant(
        group_norm_kernels._merge_kernel, ("*fp32",) * 4 + ("i32", "i32", "fp32"), dict(GROUP=4, ROWS=64, BLOCK=group_norm_silu.MERGED)
    ),
    "group_norm_silu, apply": Variant(
        group_norm_kernels._apply_kernel, ("*bf16",) * 3 + ("*fp32",) * 2 + ("*bf16",) * 2 + ("i32",) * 3, _TILE | dict(SHIFT=True, SILU=True)
    ),
    "group_norm_silu, backward sums": Variant(
        group_norm_kernels._backward_kernel, _BACKWARD + ("*fp32",) * 2 + ("*bf16",) + ("i32",) * 3, _TILE | dict(SHIFT=True, SILU=True, ADD=False, WRITE=False)
    ),
    "group_norm_silu, merge of backward sums": Variant(
        group_norm_kernels._sum_kernel, ("*fp32",) * 4 + ("i32",), dict(BLOCK=group_norm_silu.MERGED)
    ),
    "group_norm_silu, backward": Variant(
        group_norm_kernels._backward_kernel, _BACKWARD + ("*fp32",) * 2 + ("*bf16",) + ("i32",) * 3, _TILE | dict(SHIFT=True, SILU=True, ADD=True, WRITE=True)
    ),
}  # fmt: skip
