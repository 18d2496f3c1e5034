"""GroupNorm followed by SiLU in the channels-last memory format, with the gradient with respect to the input only.

    s = x (+ shift) (+ residual)    u = (s − μ_g)/√(σ²_g + ε) · w + b    y = u · sigmoid(u)
    ∂s = r·(a − mean_g(a) − ŝ·mean_g(a·ŝ)) (+ ∂ of s itself)    a = w · ∂y · (σ(u) + u·σ(u)(1 − σ(u))),  r = 1/√(σ²_g + ε)

Wu & He, "Group Normalization", 2018. The weights are frozen, so no gradients are computed for them; the backward pass
saves s, μ and r and recomputes everything else. The mean and variance of a group are merged from those of its tiles by
Chan's formula (Chan, Golub, LeVeque, 1983), without cancellation and always in the same order.

The forward pass reads s twice and writes y once (where s is kept, one more write, and with a residual one more read); the
backward pass reads s and ∂y twice each and writes once (where s is kept, one more read, of its own gradient). ATen launches one block per (image, group); here the pixels are split into
blocks too, so that a single image fills the GPU.
"""

import torch

from .library import blocks, jit, kernel_op, launch, require, require_device, require_like, tl

ELEMENTS = 4096  # Values per tile: 32 per thread.
MERGED = 1024  # Tiles whose results are merged at once.
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
    x, residual, shift, total, partial_mean, partial_square, pixels, channels, groups,
    GROUP: tl.constexpr, GROUP_P2: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr,
    ADD: tl.constexpr, SHIFT: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    chunk, slab, image = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    offsets, inside, channel = _tile(chunk, slab, image, pixels, channels, GROUP, GROUP_P2, GROUPS, ROWS)
    s = tl.load(x + offsets, mask=inside, other=0.0).to(tl.float32)
    if SHIFT:
        lane = (tl.arange(0, GROUP_P2) < GROUP)[None, :]
        s += tl.load(shift + channel, mask=lane, other=0.0).to(tl.float32)[None, :, :]
    if ADD:
        s += tl.load(residual + offsets, mask=inside, other=0.0).to(tl.float32)
    if KEEP:
        rounded = s.to(total.dtype.element_ty)
        tl.store(total + offsets, rounded, mask=inside)
        s = rounded.to(tl.float32)
    count = tl.minimum(ROWS, pixels - chunk * ROWS) * GROUP
    mean = tl.sum(tl.sum(tl.where(inside, s, 0.0), 2), 0) / count
    away = tl.where(inside, s - mean[None, :, None], 0.0)
    square = tl.sum(tl.sum(away * away, 2), 0)
    place = (image * groups + slab * GROUPS + tl.arange(0, GROUPS)) * tl.num_programs(0) + chunk
    tl.store(partial_mean + place, mean)
    tl.store(partial_square + place, square)


@jit
def _merge_kernel(
    partial_mean, partial_square, mean, rstd, chunks, pixels, eps,
    GROUP: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Mean and 1/√(σ² + ε) of one group of one image, from those of its tiles."""
    group = tl.program_id(0).to(tl.int64)
    size = (pixels * GROUP).to(tl.float32)
    whole = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, chunks, BLOCK):
        chunk = start + tl.arange(0, BLOCK)
        count = (tl.minimum(ROWS, pixels - chunk * ROWS) * GROUP).to(tl.float32)
        whole += tl.load(partial_mean + group * chunks + chunk, mask=chunk < chunks, other=0.0) * (count / size)
    middle = tl.sum(whole, 0)
    whole = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, chunks, BLOCK):
        chunk = start + tl.arange(0, BLOCK)
        there = chunk < chunks
        count = (tl.minimum(ROWS, pixels - chunk * ROWS) * GROUP).to(tl.float32)
        away = tl.load(partial_mean + group * chunks + chunk, mask=there, other=0.0) - middle
        square = tl.load(partial_square + group * chunks + chunk, mask=there, other=0.0) + away * away * count
        whole += tl.where(there, square, 0.0)
    tl.store(mean + group, middle)
    tl.store(rstd + group, 1.0 / tl.sqrt(tl.sum(whole, 0) / size + eps))


@jit
def _apply_kernel(
    s, shift, y, mean, rstd, weight, bias, pixels, channels, groups,
    GROUP: tl.constexpr, GROUP_P2: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr,
    SHIFT: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    chunk, slab, image = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    offsets, inside, channel = _tile(chunk, slab, image, pixels, channels, GROUP, GROUP_P2, GROUPS, ROWS)
    group = image * groups + slab * GROUPS + tl.arange(0, GROUPS)
    lane = (tl.arange(0, GROUP_P2) < GROUP)[None, :]
    w = tl.load(weight + channel, mask=lane, other=0.0).to(tl.float32) * tl.load(rstd + group)[:, None]
    center = tl.load(mean + group)[:, None]
    if SHIFT:
        center = center - tl.load(shift + channel, mask=lane, other=0.0).to(tl.float32)
    b = tl.load(bias + channel, mask=lane, other=0.0).to(tl.float32) - center * w
    u = tl.load(s + offsets, mask=inside, other=0.0).to(tl.float32) * w[None, :, :] + b[None, :, :]
    if SILU:
        u = u * tl.sigmoid(u)
    tl.store(y + offsets, u.to(y.dtype.element_ty), mask=inside)


@jit
def _backward_kernel(
    s, shift, grad, extra, mean, rstd, weight, bias, sum_a, sum_b, out, pixels, channels, groups,
    GROUP: tl.constexpr, GROUP_P2: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr,
    SHIFT: tl.constexpr, SILU: tl.constexpr, ADD: tl.constexpr, WRITE: tl.constexpr,
):  # fmt: skip
    """Without WRITE, store the tile's sums of a and of a·ŝ per group in sum_a and sum_b; with WRITE, store ∂s, given the
    sums over the whole group there, plus `extra` with ADD.
    """
    chunk, slab, image = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    offsets, inside, channel = _tile(chunk, slab, image, pixels, channels, GROUP, GROUP_P2, GROUPS, ROWS)
    group = image * groups + slab * GROUPS + tl.arange(0, GROUPS)
    lane = (tl.arange(0, GROUP_P2) < GROUP)[None, :]
    w = tl.load(weight + channel, mask=lane, other=0.0).to(tl.float32)[None, :, :]
    r = tl.load(rstd + group)[None, :, None]
    center = tl.load(mean + group)[:, None]
    if SHIFT:
        center = center - tl.load(shift + channel, mask=lane, other=0.0).to(tl.float32)
    hat = (tl.load(s + offsets, mask=inside, other=0.0).to(tl.float32) - center[None, :, :]) * r
    a = tl.load(grad + offsets, mask=inside, other=0.0).to(tl.float32) * w
    if SILU:
        u = hat * w + tl.load(bias + channel, mask=lane, other=0.0).to(tl.float32)[None, :, :]
        gate = tl.sigmoid(u)
        a = a * (gate + u * gate * (1.0 - gate))
    if WRITE:
        size = pixels * GROUP
        mean_a = (tl.load(sum_a + group) / size)[None, :, None]
        mean_b = (tl.load(sum_b + group) / size)[None, :, None]
        pulled = r * (a - mean_a - hat * mean_b)
        if ADD:
            pulled += tl.load(extra + offsets, mask=inside, other=0.0).to(tl.float32)
        tl.store(out + offsets, pulled.to(out.dtype.element_ty), mask=inside)
    else:
        place = group * tl.num_programs(0) + chunk
        tl.store(sum_a + place, tl.sum(tl.sum(a, 2), 0))
        tl.store(sum_b + place, tl.sum(tl.sum(a * hat, 2), 0))


@jit
def _sum_kernel(partial_a, partial_b, sum_a, sum_b, chunks, BLOCK: tl.constexpr):
    """The sums over all tiles of one group of one image."""
    group = tl.program_id(0).to(tl.int64)
    whole_a = tl.zeros((BLOCK,), tl.float32)
    whole_b = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, chunks, BLOCK):
        chunk = start + tl.arange(0, BLOCK)
        whole_a += tl.load(partial_a + group * chunks + chunk, mask=chunk < chunks, other=0.0)
        whole_b += tl.load(partial_b + group * chunks + chunk, mask=chunk < chunks, other=0.0)
    tl.store(sum_a + group, tl.sum(whole_a, 0))
    tl.store(sum_b + group, tl.sum(whole_b, 0))


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
    ctx.set_materialize_grads(
        False
    )  # else a sum that nothing else uses would get a gradient of zeros, written and read
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
