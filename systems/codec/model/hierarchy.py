"""Three nested scales of one latent and the order in which their positions are coded.

s1 is every fourth row and column of y, s2 every second, s3 all of them, so s1 ⊂ s2 ⊂ s3. What a scale adds to the coarser one
is coded in two steps: first the positions diagonal to the known ones, then the rest, which have known neighbours on all sides.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

SCALES = 3
STRIDES = (4, 2, 1)  # of s1, s2, s3 in y


@dataclass(frozen=True)
class Step:
    """One set of positions that is coded at once, of the grid of one scale: (row, column) remainders of a division by two."""

    scale: int  # 0, 1 or 2
    coded: tuple[tuple[int, int], ...]
    known: tuple[tuple[int, int], ...]


_ALL = ((0, 0), (0, 1), (1, 0), (1, 1))
STEPS = (
    Step(0, _ALL, ()),
    Step(1, ((1, 1),), ((0, 0),)),
    Step(1, ((0, 1), (1, 0)), ((0, 0), (1, 1))),
    Step(2, ((1, 1),), ((0, 0),)),
    Step(2, ((0, 1), (1, 0)), ((0, 0), (1, 1))),
)


def scale_of(latent: Tensor, scale: int) -> Tensor:
    """The positions of one scale: a view (B, C, h/stride, w/stride) of (B, C, h, w)."""
    stride = STRIDES[scale]
    return latent[:, :, ::stride, ::stride]


def collect_scales(latent: Tensor) -> list[Tensor]:
    """[s1, s2, s3] of y, coarse to fine; h and w are multiples of 4."""
    return [scale_of(latent, scale) for scale in range(SCALES)]


def mask(positions: tuple[tuple[int, int], ...], height: int, width: int, like: Tensor) -> Tensor:
    """(1, 1, height, width) of like's dtype and device: 1 at the positions, else 0."""
    result = torch.zeros(1, 1, height, width, dtype=like.dtype, device=like.device)
    for row, column in positions:
        result[:, :, row::2, column::2] = 1
    return result
