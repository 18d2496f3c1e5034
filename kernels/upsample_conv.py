"""Nearest ×2 upsampling and the following 3×3 convolution, as one transposed convolution on the small input.

An output pixel of the pair depends on at most two distinct input rows and columns: which ones depends on its phase, and
the taps that fall on the same input pixel add up. In one dimension, w = (w₀, w₁, w₂),

    out[2y] = w₀·in[y−1] + (w₁+w₂)·in[y]        out[2y+1] = (w₀+w₁)·in[y] + w₂·in[y+1]

which is a transposed convolution of stride 2 and padding 1 with the taps (w₂, w₁+w₂, w₀+w₁, w₀). It needs 4/9 of the
multiplications, writes nothing at the large size except the result, and its input gradient is a strided convolution. It
is exact up to the rounding of the summed weights. cuDNN and oneDNN have these kernels, so that Triton would add
nothing.
"""

import torch
import torch.nn.functional as F

from .library import require


def phase_weight(weight: torch.Tensor) -> torch.Tensor:
    """Return the weight of the transposed convolution, (I, O, 4, 4), in the dtype of `weight`; the taps are summed in
    fp64.

    weight: (O, I, 3, 3), the weight of the 3×3 convolution.
    """
    require(
        weight.ndim == 4 and tuple(weight.shape[2:]) == (3, 3),
        f"upsample_conv: expected a weight of shape (O, I, 3, 3), found {tuple(weight.shape)}",
    )
    taps = weight.double()
    for dimension in (2, 3):
        first, middle, last = taps.unbind(dimension)
        taps = torch.stack((last, middle + last, first + middle, first), dimension)
    return taps.transpose(0, 1).contiguous().to(weight.dtype)


def upsample_conv(x: torch.Tensor, phases: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return conv2d(interpolate(x, scale_factor=2, mode="nearest"), weight, bias, padding=1): (B, I, H, W) -> (B, O,
    2H, 2W).

    phases: `phase_weight(weight)`. Differentiable. Raises `ValueError` where the shapes do not fit.
    """
    require(
        x.ndim == 4 and phases.ndim == 4 and tuple(phases.shape[2:]) == (4, 4) and x.shape[1] == phases.shape[0],
        f"upsample_conv: x {tuple(x.shape)} does not fit phases {tuple(phases.shape)}; phases are phase_weight(weight)",
    )
    return F.conv_transpose2d(x, phases, bias, stride=2, padding=1)
