"""The Triton kernels of `group_norm_silu.py`, which says what they compute.

A program handles a tile: some pixels of an image, and some groups of channels.
"""

from .library import jit, tl


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
    size = tl.cast(pixels * GROUP, tl.float32)  # one pixel is a constant, which has no `to`
    eps = tl.cast(eps, tl.float32)  # the compiler passes a Python float as fp64, Triton itself as fp32
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
