"""Nearest ×2 upsampling and the 3×3 convolution after it, as one transposed convolution on the small input.

An output pixel of the pair sees at most two distinct input rows and columns: which ones depends on its phase, and the
taps that fall on the same input pixel add up. In one dimension, w = (w₀, w₁, w₂),

    out[2y] = w₀·in[y−1] + (w₁+w₂)·in[y]        out[2y+1] = (w₀+w₁)·in[y] + w₂·in[y+1]

which is a transposed convolution of stride 2 and padding 1 with the taps (w₂, w₁+w₂, w₀+w₁, w₀). So 4/9 of the
multiplications, nothing written at the large size but the result, and an input gradient that is a strided convolution.
Exact but for the rounding of the summed weights. cuDNN and oneDNN have these kernels: there is nothing to add in Triton.
"""

import torch
import torch.nn.functional as F

from .library import require


def phase_weight(weight: torch.Tensor) -> torch.Tensor:
    """(O, I, 3, 3) of the convolution -> (I, O, 4, 4) of the transposed one; sums in fp64, in the weight's dtype."""
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
    """(B, I, H, W) -> (B, O, 2H, 2W): conv2d(interpolate(x, scale_factor=2, mode="nearest"), weight, bias, padding=1).

    phases: `phase_weight(weight)`. Differentiable. Raises `ValueError` where the shapes do not fit.
    """
    require(
        x.ndim == 4 and phases.ndim == 4 and tuple(phases.shape[2:]) == (4, 4) and x.shape[1] == phases.shape[0],
        f"upsample_conv: x {tuple(x.shape)} does not fit phases {tuple(phases.shape)}; phases are phase_weight(weight)",
    )
    return F.conv_transpose2d(x, phases, bias, stride=2, padding=1)
