"""GroupNorm with frozen weights, whose gradient with respect to the input is computed in fp32.

On CPU, torch's own backward pass of 16-bit tensors is not vectorised where the channels of a group do not fill a
vector: at 256×256 pixels in bf16 it takes 2 to 6 times as long as a copy of both inputs to fp32, the fp32 backward
pass, and a copy back (AMD EPYC, torch 2.15; benchmarks/bench_kernels.py). The statistics are computed in fp32, too.
"""

from typing import Any

import torch
import torch.nn.functional as F

from .library import channels_last

VECTOR = 32  # Number of 16-bit values in a SIMD vector.


class _EagerGroupNorm(torch.autograd.Function):
    """GroupNorm whose backward pass runs in fp32 and returns the gradient of the input only."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float
    ) -> torch.Tensor:
        last = channels_last(x.ndim)
        ctx.layout = last if x.is_contiguous(memory_format=last) else torch.contiguous_format
        x, weight, count = x.contiguous(memory_format=ctx.layout), weight.float(), x[0, 0].numel()
        out, mean, rstd = torch.native_group_norm(x, weight, bias.float(), len(x), len(weight), count, groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.shape = len(x), len(weight), count, groups
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        pull = grads[0].float().contiguous(memory_format=ctx.layout)
        pulled, _, _ = torch.ops.aten.native_group_norm_backward(
            pull, x.float(), mean, rstd, weight, *ctx.shape, [True, False, False]
        )
        return pulled.to(x.dtype), None, None, None, None


def frozen_norm(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float = 1e-5
) -> torch.Tensor:
    """Return group_norm(x), on any device; differentiable in x alone.

    x: (B, C, …). weight, bias: (C,), frozen; raises `ValueError` if they require gradients.
    """
    if weight.requires_grad or bias.requires_grad:
        raise ValueError("frozen_norm: weight and bias must be frozen; use requires_grad_(False) on the module")
    slow = x.device.type == "cpu" and x.element_size() == 2 and x.shape[1] // groups % VECTOR
    if not slow or torch.compiler.is_compiling():
        return F.group_norm(x, groups, weight, bias, eps)
    result: torch.Tensor = _EagerGroupNorm.apply(x, weight, bias, groups, eps)
    return result
