"""GroupNorm followed by SiLU in the channels-last memory format, with the gradient with respect to the input only.

    s = x (+ residual)    u = (s − μ_g)/√(σ²_g + ε) · w + b    y = u · sigmoid(u)
    ∂s = r·(a − mean_g(a) − ŝ·mean_g(a·ŝ))        a = w · ∂y · (σ(u) + u·σ(u)(1 − σ(u))),  r = 1/√(σ²_g + ε)

Wu & He, "Group Normalization", 2018. The weights are frozen, so no gradients are computed for them; the backward pass
saves s, μ and r and recomputes everything else. The mean and variance of a group are merged from those of its tiles by
Chan's formula (Chan, Golub, LeVeque, 1983), without cancellation and always in the same order.

The forward pass reads s twice and writes y once (with a residual, one more read and one more write); the backward pass
reads s and ∂y twice each and writes once. ATen launches one block per (image, group); here the pixels are split into
blocks too, so that a single image fills the GPU.
"""

import torch

from .library import blocks, jit, kernel_op, launch, require, require_device, require_like, tl

ELEMENTS = 4096  # Values per tile: 32 per thread.
CHANNELS = 64  # Channels per tile, where the groups allow it: 128 contiguous bytes in bf16.


@jit
def _tile(
    chunk, slab, image, pixels, channels, GROUP: tl.constexpr, GROUP_P2: tl.constexpr, GROUPS: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Return the offsets (ROWS, GROUPS, GROUP_P2) of a tile, the mask of those that exist, and the channel of each."""
    row = chunk * ROWS + tl.arange(0, ROWS)
    lane = tl.arange(0, GROUP_P2)
    channel = (slab * GROUPS + tl.arange(0, GROUPS))[:, None] * GROUP + lane[None, :]
    inside = (row < pixels)[:, None, None] & (lane < GROUP)[None, None, :]
    offsets = (image * pixels + row)[:, None, None] * channels + channel[None, :, :]
    return offsets, inside, channel


@jit
def _statistics_kernel(
    x, residual, total, partial_mean, partial_square, pixels, channels, groups,
    GROUP: tl.constexpr, GROUP_P2: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    chunk, slab, image = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    offsets, inside, _ = _tile(chunk, slab, image, pixels, channels, GROUP, GROUP_P2, GROUPS, ROWS)
    s = tl.load(x + offsets, mask=inside, other=0.0)
    if ADD:
        s = (s.to(tl.float32) + tl.load(residual + offsets, mask=inside, other=0.0).to(tl.float32)).to(s.dtype)
        tl.store(total + offsets, s, mask=inside)
    s = s.to(tl.float32)
    count = tl.minimum(ROWS, pixels - chunk * ROWS) * GROUP
    mean = tl.sum(tl.sum(s, 2), 0) / count
    away = tl.where(inside, s - mean[None, :, None], 0.0)
    square = tl.sum(tl.sum(away * away, 2), 0)
    group = slab * GROUPS + tl.arange(0, GROUPS)
    place = (image * tl.num_programs(0) + chunk) * groups + group
    tl.store(partial_mean + place, mean)
    tl.store(partial_square + place, square)


@jit
def _apply_kernel(
    s, y, mean, rstd, weight, bias, pixels, channels, groups,
    GROUP: tl.constexpr, GROUP_P2: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    chunk, slab, image = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    offsets, inside, channel = _tile(chunk, slab, image, pixels, channels, GROUP, GROUP_P2, GROUPS, ROWS)
    group = image * groups + slab * GROUPS + tl.arange(0, GROUPS)
    lane = (tl.arange(0, GROUP_P2) < GROUP)[None, :]
    w = tl.load(weight + channel, mask=lane, other=0.0).to(tl.float32) * tl.load(rstd + group)[:, None]
    b = tl.load(bias + channel, mask=lane, other=0.0).to(tl.float32) - tl.load(mean + group)[:, None] * w
    u = tl.load(s + offsets, mask=inside, other=0.0).to(tl.float32) * w[None, :, :] + b[None, :, :]
    tl.store(y + offsets, (u * tl.sigmoid(u)).to(y.dtype.element_ty), mask=inside)


@jit
def _backward_kernel(
    s, grad, mean, rstd, weight, bias, partial_a, partial_b, sum_a, sum_b, out, pixels, channels, groups,
    GROUP: tl.constexpr, GROUP_P2: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, WRITE: tl.constexpr,
):  # fmt: skip
    """Without WRITE, store the tile's sums of a and of a·ŝ per group; with WRITE, store ∂s, given the sums over the
    whole group.
    """
    chunk, slab, image = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    offsets, inside, channel = _tile(chunk, slab, image, pixels, channels, GROUP, GROUP_P2, GROUPS, ROWS)
    which = slab * GROUPS + tl.arange(0, GROUPS)
    group = image * groups + which
    lane = (tl.arange(0, GROUP_P2) < GROUP)[None, :]
    w = tl.load(weight + channel, mask=lane, other=0.0).to(tl.float32)[None, :, :]
    b = tl.load(bias + channel, mask=lane, other=0.0).to(tl.float32)[None, :, :]
    r = tl.load(rstd + group)[None, :, None]
    hat = (tl.load(s + offsets, mask=inside, other=0.0).to(tl.float32) - tl.load(mean + group)[None, :, None]) * r
    u = hat * w + b
    gate = tl.sigmoid(u)
    a = tl.load(grad + offsets, mask=inside, other=0.0).to(tl.float32) * w * (gate + u * gate * (1.0 - gate))
    if WRITE:
        size = pixels * GROUP
        mean_a = (tl.load(sum_a + group) / size)[None, :, None]
        mean_b = (tl.load(sum_b + group) / size)[None, :, None]
        tl.store(out + offsets, (r * (a - mean_a - hat * mean_b)).to(out.dtype.element_ty), mask=inside)
    else:
        place = (image * tl.num_programs(0) + chunk) * groups + which
        tl.store(partial_a + place, tl.sum(tl.sum(a, 2), 0))
        tl.store(partial_b + place, tl.sum(tl.sum(a * hat, 2), 0))


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
    x: torch.Tensor, residual: torch.Tensor | None, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    grid, tile = _tiling(x, groups)
    pixels, channels = x.shape[2] * x.shape[3], x.shape[1]
    means, squares = (x.new_empty((x.shape[0], grid[0], groups), dtype=torch.float32) for _ in range(2))
    total = x if residual is None else torch.empty_like(x)
    launch(
        _statistics_kernel, grid, x, x if residual is None else residual, total, means, squares,
        pixels, channels, groups, **tile, ADD=residual is not None,
    )  # fmt: skip
    counts = torch.full((grid[0], 1), tile["ROWS"] * tile["GROUP"], dtype=torch.float32, device=x.device)
    counts[-1] = (pixels - (grid[0] - 1) * tile["ROWS"]) * tile["GROUP"]
    size = pixels * tile["GROUP"]
    mean = (means * counts).sum(1) / size
    between = ((means - mean[:, None]).square() * counts).sum(1)
    rstd = torch.rsqrt((squares.sum(1) + between) / size + eps)
    y = torch.empty_like(x)
    launch(_apply_kernel, grid, total, y, mean, rstd, weight, bias, pixels, channels, groups, **tile)
    return y, total, mean, rstd


@kernel_op("group_norm_silu")
def _group_norm_silu(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    y, _, mean, rstd = _forward(x, None, weight, bias, groups, eps)
    return y, mean, rstd


@kernel_op("add_group_norm_silu")
def _add_group_norm_silu(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return _forward(x, residual, weight, bias, groups, eps)


@kernel_op("group_norm_silu_backward")
def _group_norm_silu_backward(
    grad: torch.Tensor, s: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor, weight: torch.Tensor,
    bias: torch.Tensor, groups: int,
) -> torch.Tensor:  # fmt: skip
    grid, tile = _tiling(s, groups)
    pixels, channels = s.shape[2] * s.shape[3], s.shape[1]
    partial_a, partial_b = (s.new_empty((s.shape[0], grid[0], groups), dtype=torch.float32) for _ in range(2))
    out = torch.empty_like(s)
    launch(
        _backward_kernel, grid, s, grad, mean, rstd, weight, bias, partial_a, partial_b, mean, mean, out,
        pixels, channels, groups, **tile, WRITE=False,
    )  # fmt: skip
    sum_a, sum_b = partial_a.sum(1), partial_b.sum(1)
    launch(
        _backward_kernel, grid, s, grad, mean, rstd, weight, bias, partial_a, partial_b, sum_a, sum_b, out,
        pixels, channels, groups, **tile, WRITE=True,
    )  # fmt: skip
    return out


def _save(ctx, inputs, output):
    *tensors, weight, bias, groups, _ = inputs
    s = tensors[0] if len(tensors) == 1 else output[1]
    ctx.save_for_backward(s, output[-2], output[-1], weight, bias)
    ctx.groups = groups


def _backward(ctx, grad, *rest):
    s, mean, rstd, weight, bias = ctx.saved_tensors
    grad = grad.contiguous(memory_format=torch.channels_last)
    grad_s = torch.ops.relatent.group_norm_silu_backward(grad, s, mean, rstd, weight, bias, ctx.groups)
    if len(rest) == 2:  # without residual
        return grad_s, None, None, None, None
    grad_s = grad_s + rest[0]
    return grad_s, grad_s.clone(), None, None, None, None


_group_norm_silu.register_autograd(_backward, setup_context=_save)
_add_group_norm_silu.register_autograd(_backward, setup_context=_save)


def group_norm_silu(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    groups: int,
    eps: float = 1e-6,
    residual: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return y = silu(group_norm(s)) and s = x + residual (x itself without a residual), both like x.

    x, residual: (B, C, H, W), channels-last, fp32, bf16 or fp16; the result is differentiable in both.
    weight, bias: (C,), frozen; no gradient is computed for them.
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
    for name, tensor in (("weight", weight), ("bias", bias)):
        require(
            tuple(tensor.shape) == (channels,) and tensor.is_contiguous() and not tensor.requires_grad,
            f"group_norm_silu: {name} must be frozen and of shape ({channels},), found {tuple(tensor.shape)}",
        )
    if residual is None:
        return _group_norm_silu(x, weight, bias, groups, eps)[0], x
    require_like("group_norm_silu", x, residual=residual)
    require(residual.dtype == x.dtype, f"group_norm_silu: residual is {residual.dtype}, x {x.dtype}")
    y, total, _, _ = _add_group_norm_silu(x, residual, weight, bias, groups, eps)
    return y, total
