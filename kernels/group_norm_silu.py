"""GroupNorm followed by SiLU in the channels-last memory format, with the gradient with respect to the input only.

    s = x (+ shift) (+ residual)    u = (s − μ_g)/√(σ²_g + ε) · w + b    y = u · sigmoid(u)
    ∂s = r·(a − mean_g(a) − ŝ·mean_g(a·ŝ)) (+ ∂ of s itself)    a = w · ∂y · (σ(u) + u·σ(u)(1 − σ(u))),  r = 1/√(σ²_g + ε)

Wu & He, "Group Normalization", 2018. The weights are frozen, so no gradients are computed for them; the backward pass
saves s, μ and r and recomputes everything else. The mean and variance of a group are merged from those of its tiles by
Chan's formula (Chan, Golub, LeVeque, 1983), without cancellation and always in the same order.

The forward pass reads s twice and writes y once (where s is kept, one more write, and with a residual one more read); the
backward pass reads s and ∂y twice each and writes once (where s is kept, one more read, of its own gradient). ATen
launches one block per (image, group); here the pixels are split into blocks too, so that a single image fills the GPU.
"""

import torch

from .group_norm_kernels import _apply_kernel, _backward_kernel, _merge_kernel, _statistics_kernel, _sum_kernel
from .library import blocks, kernel_op, launch, require, require_device, require_like

ELEMENTS = 4096  # Values per tile: 32 per thread.
MERGED = 1024  # Tiles whose results are merged at once.
CHANNELS = 64  # Channels per tile, where the groups allow it: 128 contiguous bytes in bf16.


def _tiling(x: torch.Tensor, groups: int) -> tuple[tuple[int, int, int], dict[str, int]]:
    """Return the grid (chunks of pixels, slabs of groups, images) and the constants of the tile."""
    count, channels, pixels = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
    group = channels // groups
    wide = 1 << (group - 1).bit_length()
    together = 1
    while groups % (2 * together) == 0 and 2 * together * group <= CHANNELS:
        together *= 2
    rows = max(1, ELEMENTS // (together * wide))
    constants = {"GROUP": group, "GROUP_P2": wide, "GROUPS": together, "ROWS": rows}
    return (blocks(pixels, rows), groups // together, count), constants


def _forward(
    x: torch.Tensor, residual: torch.Tensor | None, shift: torch.Tensor | None, weight: torch.Tensor,
    bias: torch.Tensor, groups: int, eps: float, silu: bool, keep: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """y, s (x itself unless `keep`), mean and rstd.

    A tensor goes to a kernel once: the compiler makes a copy of an intermediate result for each argument it is. What a
    kernel does not use is the weight.
    """
    grid, tile = _tiling(x, groups)
    pixels, channels = x.shape[2] * x.shape[3], x.shape[1]
    means, squares = (x.new_empty((x.shape[0], groups, grid[0]), dtype=torch.float32) for _ in range(2))
    mean, rstd = (x.new_empty((x.shape[0], groups), dtype=torch.float32) for _ in range(2))
    total = torch.empty_like(x) if keep else None
    launch(
        _statistics_kernel, grid, x, _or(residual, weight), _or(shift, weight), _or(total, weight), means, squares,
        pixels, channels, groups, **tile, ADD=residual is not None, SHIFT=shift is not None, KEEP=keep,
    )  # fmt: skip
    launch(
        _merge_kernel, (x.shape[0] * groups,), means, squares, mean, rstd, grid[0], pixels, eps,
        GROUP=tile["GROUP"], ROWS=tile["ROWS"], BLOCK=MERGED,
    )  # fmt: skip
    y = torch.empty_like(x)
    s, shift = (x, shift) if total is None else (total, None)
    launch(
        _apply_kernel, grid, s, _or(shift, weight), y, mean, rstd, weight, bias, pixels, channels, groups, **tile,
        SHIFT=shift is not None, SILU=silu,
    )  # fmt: skip
    return y, s, mean, rstd


def _or(tensor: torch.Tensor | None, instead: torch.Tensor) -> torch.Tensor:
    return instead if tensor is None else tensor


@kernel_op("group_norm_silu")
def _group_norm_silu(
    x: torch.Tensor, shift: torch.Tensor | None, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float,
    silu: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    y, _, mean, rstd = _forward(x, None, shift, weight, bias, groups, eps, silu, False)
    return y, mean, rstd


@kernel_op("add_group_norm_silu")
def _add_group_norm_silu(
    x: torch.Tensor, residual: torch.Tensor | None, shift: torch.Tensor | None, weight: torch.Tensor,
    bias: torch.Tensor, groups: int, eps: float, silu: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    return _forward(x, residual, shift, weight, bias, groups, eps, silu, True)


@kernel_op("group_norm_silu_backward")
def _group_norm_silu_backward(
    grad: torch.Tensor, extra: torch.Tensor | None, s: torch.Tensor, shift: torch.Tensor | None, mean: torch.Tensor,
    rstd: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, silu: bool,
) -> torch.Tensor:  # fmt: skip
    grid, tile = _tiling(s, groups)
    pixels, channels = s.shape[2] * s.shape[3], s.shape[1]
    partial_a, partial_b = (s.new_empty((s.shape[0], groups, grid[0]), dtype=torch.float32) for _ in range(2))
    sum_a, sum_b = (s.new_empty((s.shape[0], groups), dtype=torch.float32) for _ in range(2))
    out = torch.empty_like(s)
    flags = {"SHIFT": shift is not None, "SILU": silu}
    launch(
        _backward_kernel, grid, s, _or(shift, weight), grad, weight, mean, rstd, weight, bias, partial_a, partial_b,
        weight, pixels, channels, groups, **tile, **flags, ADD=False, WRITE=False,
    )  # fmt: skip
    launch(_sum_kernel, (s.shape[0] * groups,), partial_a, partial_b, sum_a, sum_b, grid[0], BLOCK=MERGED)
    launch(
        _backward_kernel, grid, s, _or(shift, weight), grad, _or(extra, weight), mean, rstd, weight, bias, sum_a, sum_b,
        out, pixels, channels, groups, **tile, **flags, ADD=extra is not None, WRITE=True,
    )  # fmt: skip
    return out


def _save(ctx, inputs, output):
    # otherwise a sum that nothing else uses would get a gradient of zeros, written and read
    ctx.set_materialize_grads(False)
    ctx.groups, ctx.silu = inputs[-3], inputs[-1]
    ctx.sum = len(output) == 4
    s, shift = (output[1], None) if ctx.sum else inputs[:2]
    ctx.residual = ctx.sum and inputs[1] is not None
    ctx.save_for_backward(s, shift, output[-2], output[-1], *inputs[-5:-3])


def _backward(ctx, grad, *rest):
    s, shift, mean, rstd, weight, bias = ctx.saved_tensors
    extra = rest[0] if ctx.sum else None
    grad, extra = (
        each if each is None else each.contiguous(memory_format=torch.channels_last) for each in (grad, extra)
    )
    if grad is None:
        grad_s = extra
    else:
        grad_s = torch.ops.relatent.group_norm_silu_backward(
            grad, extra, s, shift, mean, rstd, weight, bias, ctx.groups, ctx.silu
        )
    if not ctx.sum:
        return grad_s, *[None] * 6
    return grad_s, grad_s if ctx.residual else None, *[None] * 6


_group_norm_silu.register_autograd(_backward, setup_context=_save)
_add_group_norm_silu.register_autograd(_backward, setup_context=_save)


def group_norm_silu(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    groups: int,
    eps: float = 1e-6,
    residual: torch.Tensor | None = None,
    *,
    shift: torch.Tensor | None = None,
    silu: bool = True,
    keep: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return y = silu(group_norm(s)), without silu the norm alone, and s = x + shift + residual, both like x.

    s is computed and stored where there is a residual or with `keep`; otherwise the second result is x itself.
    x, residual: (B, C, H, W), channels-last, fp32, bf16 or fp16; the results are differentiable in both.
    weight, bias, shift: (C,), frozen; no gradient is computed for them. shift, per channel: a convolution's bias.
    groups: divides C.
    Raises `ValueError` for anything else.
    """
    require_device(x, "group_norm_silu")
    require(
        x.ndim == 4 and x.numel() > 0 and x.is_contiguous(memory_format=torch.channels_last),
        f"group_norm_silu: x must be channels-last (B, C, H, W), found {tuple(x.shape)} with strides {x.stride()}; "
        "use x.contiguous(memory_format=torch.channels_last)",
    )
    require(x.is_floating_point() and x.dtype != torch.float64, f"group_norm_silu: x must not be {x.dtype}")
    channels = x.shape[1]
    require(
        groups > 0 and channels % groups == 0, f"group_norm_silu: {groups} groups do not divide {channels} channels"
    )
    for name, tensor in (("weight", weight), ("bias", bias), ("shift", shift)):
        require(
            tensor is None
            or (tuple(tensor.shape) == (channels,) and tensor.is_contiguous() and not tensor.requires_grad),
            f"group_norm_silu: {name} must be frozen and of shape ({channels},)",
        )
    if residual is None and not keep:
        return _group_norm_silu(x, shift, weight, bias, groups, eps, silu)[0], x
    if residual is not None:
        require_like("group_norm_silu", x, residual=residual)
        require(residual.dtype == x.dtype, f"group_norm_silu: residual is {residual.dtype}, x {x.dtype}")
    y, total, _, _ = _add_group_norm_silu(x, residual, shift, weight, bias, groups, eps, silu)
    return y, total
