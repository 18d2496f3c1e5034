"""Two-dimensional Haar wavelet transform, orthonormal, one level (Haar, 1910; Mallat, 1989).

Of each block of 2 × 2 values [[a, b], [c, d]] the four bands hold ½(a + b + c + d), ½(a + b − c − d), ½(a − b + c − d) and
½(a − b − c + d): their squares sum to those of the block. A mean of the block is half of the first band, a quarter of its
energy.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F


class HaarBands(NamedTuple):
    """The bands of (…, C, H, W), each (…, C, ⌈H/2⌉, ⌈W/2⌉), in the order and with the signs of PyWavelets' `dwt2`."""

    low: torch.Tensor  # LL: ½ the sum of each block
    horizontal: torch.Tensor  # upper row less lower row: horizontal edges
    vertical: torch.Tensor  # left column less right column: vertical edges
    diagonal: torch.Tensor


def haar_2d(x: torch.Tensor) -> HaarBands:
    """Return the four bands of `x`, (B, C, H, W) floating point. Of an odd side the last row or column is repeated."""
    x = _even(x)
    top, bottom = x[..., 0::2, :], x[..., 1::2, :]
    low, high = top + bottom, top - bottom
    return HaarBands(
        0.5 * (low[..., 0::2] + low[..., 1::2]),
        0.5 * (high[..., 0::2] + high[..., 1::2]),
        0.5 * (low[..., 0::2] - low[..., 1::2]),
        0.5 * (high[..., 0::2] - high[..., 1::2]),
    )


def inverse_haar_2d(bands: HaarBands, size: tuple[int, int] | None = None) -> torch.Tensor:
    """Return what `haar_2d` made `bands` of; `size` is its (H, W), needed where a side is odd, else twice the bands'."""
    low, horizontal, vertical, diagonal = bands
    left, right = (low + vertical, horizontal + diagonal), (low - vertical, horizontal - diagonal)
    top = torch.stack((left[0] + left[1], right[0] + right[1]), -1).flatten(-2)
    bottom = torch.stack((left[0] - left[1], right[0] - right[1]), -1).flatten(-2)
    whole = 0.5 * torch.stack((top, bottom), -2).flatten(-3, -2)
    return whole if size is None else whole[..., : size[0], : size[1]]


class DWTDownsampler(torch.nn.Module):
    """The low band of the Haar transform alone, (B, C, H, W) -> (B, C, ⌈H/2⌉, ⌈W/2⌉): one pass over the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(_even(x), 2, divisor_override=2)

    downsample = forward


def _even(x: torch.Tensor) -> torch.Tensor:
    height, width = x.shape[-2:]
    return F.pad(x, (0, width % 2, 0, height % 2), mode="replicate") if height % 2 or width % 2 else x
