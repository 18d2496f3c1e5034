"""The Triton kernels of `group_norm_silu.py`, which says what they compute.

A program handles a tile (ROWS, LANES): some pixels of an image, and the channels of some of its groups, which lie beside each
other in memory. A lane is a channel of the tile; where a group's size is no power of two, its last lanes are empty.
"""

from .library import jit, tl


@jit
def _program(LAST_FIRST: tl.constexpr):
    """Return the tile of this program: chunk of pixels, slab of groups, image.

    LAST_FIRST: for a second pass over what a first one has read, whose last tiles are still in the cache.
    """
    chunk, slab, image = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if LAST_FIRST:
        chunk, slab = tl.num_programs(0) - 1 - chunk, tl.num_programs(1) - 1 - slab
        image = tl.num_programs(2) - 1 - image
    return chunk, slab, image.to(tl.int64)


@jit
def _tile(
    chunk, slab, image, pixels, channels, GROUP: tl.constexpr, GROUP_P2: tl.constexpr, GROUPS: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Return where a tile begins, the offsets (ROWS, LANES) from there, the mask of those that exist, and of each lane the
    channel, the group within the image and whether it exists."""
    lane = tl.arange(0, GROUPS * GROUP_P2)
    row = tl.arange(0, ROWS)
    group = slab * GROUPS + lane // GROUP_P2
    if GROUP == GROUP_P2:  # in a form that shows the compiler that lanes are contiguous: it loads 128 bits at once
        channel = slab * (GROUPS * GROUP) + lane
        there = lane < GROUPS * GROUP
    else:
        channel = group * GROUP + lane % GROUP_P2
        there = lane % GROUP_P2 < GROUP
    begin = (image * pixels + chunk * ROWS) * channels
    inside = (chunk * ROWS + row < pixels)[:, None] & there[None, :]
    return begin, row[:, None] * channels + channel[None, :], inside, channel, group, there


@jit
def _by_group(lanes, GROUPS: tl.constexpr, GROUP_P2: tl.constexpr):
    """(LANES,) -> the sums of the lanes of each group, (GROUPS,)."""
    return tl.sum(tl.reshape(lanes, (GROUPS, GROUP_P2)), 1)


@jit
def _statistics_kernel(
    x, residual, shift, total, partial_mean, partial_square, pixels, channels, groups,
    GROUP: tl.constexpr, GROUP_P2: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr,
    ADD: tl.constexpr, SHIFT: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    """Store mean and sum of squared deviations of each group in a tile: of each channel first, then merged."""
    chunk, slab, image = _program(False)
    begin, offsets, inside, channel, _, there = _tile(
        chunk, slab, image, pixels, channels, GROUP, GROUP_P2, GROUPS, ROWS
    )
    s = tl.load(x + begin + offsets, mask=inside, other=0.0).to(tl.float32)
    if SHIFT:
        s += tl.load(shift + channel, mask=there, other=0.0).to(tl.float32)[None, :]
    if ADD:
        s += tl.load(residual + begin + offsets, mask=inside, other=0.0).to(tl.float32)
    if KEEP:
        rounded = s.to(total.dtype.element_ty)
        tl.store(total + begin + offsets, rounded, mask=inside)
        s = rounded.to(tl.float32)
    rows = tl.minimum(ROWS, pixels - chunk * ROWS).to(tl.float32)
    middle = tl.sum(tl.where(inside, s, 0.0), 0) / rows
    away = tl.where(inside, s - middle[None, :], 0.0)
    mean = _by_group(middle, GROUPS, GROUP_P2) / GROUP
    apart = tl.reshape(middle, (GROUPS, GROUP_P2)) - mean[:, None]
    apart = tl.where((tl.arange(0, GROUP_P2) < GROUP)[None, :], apart, 0.0)
    square = _by_group(tl.sum(away * away, 0), GROUPS, GROUP_P2) + rows * tl.sum(apart * apart, 1)
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
    chunk, slab, image = _program(True)
    begin, offsets, inside, channel, group, there = _tile(
        chunk, slab, image, pixels, channels, GROUP, GROUP_P2, GROUPS, ROWS
    )
    values = tl.load(s + begin + offsets, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + channel, mask=there, other=0.0).to(tl.float32) * tl.load(rstd + image * groups + group)
    center = tl.load(mean + image * groups + group)
    if SHIFT:
        center = center - tl.load(shift + channel, mask=there, other=0.0).to(tl.float32)
    b = tl.load(bias + channel, mask=there, other=0.0).to(tl.float32) - center * w
    u = values * w[None, :] + b[None, :]
    if SILU:
        u = u * tl.sigmoid(u)
    tl.store(y + begin + offsets, u.to(y.dtype.element_ty), mask=inside)


@jit
def _backward_kernel(
    s, shift, grad, extra, mean, rstd, weight, bias, sum_a, sum_b, out, pixels, channels, groups,
    GROUP: tl.constexpr, GROUP_P2: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr,
    SHIFT: tl.constexpr, SILU: tl.constexpr, ADD: tl.constexpr, WRITE: tl.constexpr,
):  # fmt: skip
    """Without WRITE, store the tile's sums of a and of a·ŝ per group in sum_a and sum_b; with WRITE, store ∂s, given the
    sums over the whole group there, plus `extra` with ADD.
    """
    chunk, slab, image = _program(WRITE)
    begin, offsets, inside, channel, group, there = _tile(
        chunk, slab, image, pixels, channels, GROUP, GROUP_P2, GROUPS, ROWS
    )
    values = tl.load(s + begin + offsets, mask=inside, other=0.0).to(tl.float32)
    a = tl.load(grad + begin + offsets, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + channel, mask=there, other=0.0).to(tl.float32)[None, :]
    r = tl.load(rstd + image * groups + group)[None, :]
    center = tl.load(mean + image * groups + group)
    if SHIFT:
        center = center - tl.load(shift + channel, mask=there, other=0.0).to(tl.float32)
    hat = (values - center[None, :]) * r
    a = a * w
    if SILU:
        u = hat * w + tl.load(bias + channel, mask=there, other=0.0).to(tl.float32)[None, :]
        gate = tl.sigmoid(u)
        a = a * (gate + u * gate * (1.0 - gate))
    if WRITE:
        size = tl.cast(pixels * GROUP, tl.float32)
        mean_a = (tl.load(sum_a + image * groups + group) / size)[None, :]
        mean_b = (tl.load(sum_b + image * groups + group) / size)[None, :]
        pulled = r * (a - mean_a - hat * mean_b)
        if ADD:
            pulled += tl.load(extra + begin + offsets, mask=inside, other=0.0).to(tl.float32)
        tl.store(out + begin + offsets, pulled.to(out.dtype.element_ty), mask=inside)
    else:
        place = (image * groups + slab * GROUPS + tl.arange(0, GROUPS)) * tl.num_programs(0) + chunk
        tl.store(sum_a + place, _by_group(tl.sum(a, 0), GROUPS, GROUP_P2))
        tl.store(sum_b + place, _by_group(tl.sum(a * hat, 0), GROUPS, GROUP_P2))


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
