"""Loss of a decoded batch against its target, and the loss's gradient, in one pass over memory.

    loss_b = 1/n · Σ_i w_i ρ(x_i − t_i)        ρ(e) = e² (mse), |e| (l1), Huber's (½e² inside δ, δ(|e| − ½δ) outside)
    gradient_i = s · ∂loss_b/∂x_i              s a power of two that keeps the gradient above fp16's smallest number
    error_b = 1/n · Σ_i w_i (clamp(x_i) − t_i)²

n is an image's number of values and w a weight per pixel whose mean is 1 (`mean_one`). In the error x is clamped to
`value_range`, with `clamp` in the loss as well; the gradient is then 0 strictly outside and passes at the bounds, as torch.clamp's does.
Without it (what the engine uses) a value out of range is still pulled back. NaN passes through to the loss.

Moves, per value, one read of the decoded image, one of the target (one byte where it is uint8) and one write of the
gradient. The reduction has two fixed stages, so the same input gives the same bits.
"""

import torch

from .library import blocks, channels_last, jit, kernel_op, launch, require, require_device, require_like, tl

KINDS = ("mse", "l1", "huber")
BLOCK = 4096  # values per program


@jit
def _fused_loss_kernel(
    decoded, target, weight, gradient, partial_loss, partial_error, values, pixels, channels, scale, delta,
    low, high, KIND: tl.constexpr, CLAMP: tl.constexpr, BYTES: tl.constexpr, WEIGHTED: tl.constexpr, LAST: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    # the compiler passes a Python float as fp64, Triton itself as fp32
    scale, delta = tl.cast(scale, tl.float32), tl.cast(delta, tl.float32)
    low, high = tl.cast(low, tl.float32), tl.cast(high, tl.float32)
    image = tl.program_id(1).to(tl.int64)
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < values
    x = tl.load(decoded + image * values + offsets, mask=inside, other=0.0).to(tl.float32)
    t = tl.load(target + image * values + offsets, mask=inside, other=0).to(tl.float32)
    if BYTES:
        t = t / 127.5 - 1.0
    # comparisons, not minimum and maximum: those may drop a NaN
    clamped = tl.where(x < low, low, tl.where(x > high, high, x))
    e = (clamped if CLAMP else x) - t
    if KIND == 0:
        rho, slope = e * e, 2.0 * e
    elif KIND == 1:
        rho = tl.abs(e)
        slope = tl.where(e > 0.0, 1.0, tl.where(e < 0.0, -1.0, e))
    else:
        size = tl.abs(e)
        rho = tl.where(size <= delta, 0.5 * e * e, delta * (size - 0.5 * delta))
        slope = tl.where(e > delta, delta, tl.where(e < -delta, -delta, e))
    if CLAMP:
        slope = tl.where((x < low) | (x > high), 0.0, slope)
    square = (clamped - t) * (clamped - t)
    if WEIGHTED:
        pixel = offsets // channels if LAST else offsets % pixels
        w = tl.load(weight + image * pixels + pixel, mask=inside, other=0.0)
        rho, slope, square = w * rho, w * slope, w * square
    tl.store(gradient + image * values + offsets, (slope * scale).to(gradient.dtype.element_ty), mask=inside)
    block = image * tl.num_programs(0) + tl.program_id(0)
    tl.store(partial_loss + block, tl.sum(tl.where(inside, rho, 0.0), 0))
    tl.store(partial_error + block, tl.sum(tl.where(inside, square, 0.0), 0))


@kernel_op("fused_loss")
def _fused_loss(
    decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None, kind: int, delta: float, scale: float,
    clamp: bool, low: float, high: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    count, values, channels = decoded.shape[0], decoded[0].numel(), decoded.shape[1]
    parts = blocks(values, BLOCK)
    gradient = torch.empty_like(decoded)
    partial_loss, partial_error = (decoded.new_empty((count, parts), dtype=torch.float32) for _ in range(2))
    launch(
        _fused_loss_kernel, (parts, count),
        decoded, target, decoded if weight is None else weight, gradient, partial_loss, partial_error,
        values, values // channels, channels, scale / values, delta, low, high,
        KIND=kind, CLAMP=clamp, BYTES=target.dtype == torch.uint8, WEIGHTED=weight is not None,
        LAST=not decoded.is_contiguous(), BLOCK=BLOCK,
    )  # fmt: skip
    return partial_loss.sum(1) / values, partial_error.sum(1) / values, gradient


def fused_loss(
    decoded: torch.Tensor,
    target: torch.Tensor,
    kind: str = "mse",
    *,
    weight: torch.Tensor | None = None,
    delta: float = 0.1,
    scale: float = 1.0,
    clamp: bool = False,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """-> loss (B,) fp32, clamped squared error (B,) fp32, `scale` × gradient like `decoded`.

    decoded: (B, C, *spatial) fp32, bf16 or fp16, contiguous or channels-last. target: same shape and strides, floating
    point in `value_range`, or uint8 in [0, 255], which stands for [-1, 1]. weight: (B, 1, *spatial) fp32, contiguous, mean 1 per image, or None.
    kind: one of `KINDS`; delta: Huber's bend. Raises `ValueError` for anything else; see the module for the maths.
    """
    require_device(decoded, "fused_loss")
    require(kind in KINDS, f"fused_loss: kind must be one of {', '.join(KINDS)}, found {kind!r}")
    require(decoded.ndim >= 3, f"fused_loss: expected (B, C, *spatial), found {tuple(decoded.shape)}")
    require(decoded.numel() > 0, f"fused_loss: nothing to measure in shape {tuple(decoded.shape)}")
    require(decoded.is_floating_point() and decoded.dtype != torch.float64, f"fused_loss: {decoded.dtype} decoded")
    require(
        target.dtype == torch.uint8 or (target.is_floating_point() and target.dtype != torch.float64),
        f"fused_loss: target must be uint8, fp32, bf16 or fp16, found {target.dtype}",
    )
    dense = decoded.is_contiguous() or decoded.is_contiguous(memory_format=channels_last(decoded.ndim))
    require(dense, f"fused_loss: decoded is neither contiguous nor channels-last: strides {tuple(decoded.stride())}")
    require_like("fused_loss", decoded, target=target)
    if weight is not None:
        expected = (decoded.shape[0], 1, *decoded.shape[2:])
        require(
            tuple(weight.shape) == expected and weight.dtype == torch.float32 and weight.is_contiguous(),
            f"fused_loss: weight must be contiguous fp32 {expected}, found {weight.dtype} {tuple(weight.shape)}",
        )
    return _fused_loss(decoded, target, weight, KINDS.index(kind), delta, scale, clamp, *value_range)


def mean_one(weight: torch.Tensor) -> torch.Tensor:
    """(B, 1, *spatial) of values ≥ 0, or bool, -> fp32 with mean 1 per image. Raises `ValueError` for an empty mask."""
    weight = weight.to(torch.float32)
    means = weight.flatten(1).mean(1)
    require(bool((weight >= 0).all()), "weight: negative or NaN values; a weight or mask is 0 or more")
    require(bool((means > 0).all()), "weight: all of an image is masked out; nothing is left to optimise")
    return (weight / means.view((-1,) + (1,) * (weight.ndim - 1))).contiguous()
