"""A small 3-D U-Net."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ....engine.errors import UsageError

GROUPS = 4
RARE = -3.0  # the first logit: most voxels are normal


class UNet3D(nn.Module):
    """Volumes (B, 2, D, H, W), error map and CT, to logits (B, 1, D, H, W).

    Sides are multiples of 2^(levels - 1), which is 4 for three levels; others raise `UsageError`.
    """

    def __init__(self, channels: Sequence[int] = (8, 16, 32), inputs: int = 2) -> None:
        super().__init__()
        self.factor: int = 2 ** (len(channels) - 1)
        self.down = nn.ModuleList(_block(*pair) for pair in pairwise((inputs, *channels)))
        pairs = list(pairwise(channels))[::-1]
        self.up = nn.ModuleList(_block(fine + coarse, fine) for fine, coarse in pairs)
        self.head = nn.Conv3d(channels[0], 1, 1)
        nn.init.constant_(self.head.bias, RARE)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, D, H, W) floats to (B, 1, D, H, W) logits."""
        if any(size % self.factor for size in x.shape[2:]):
            raise UsageError(
                f"the detector needs sides that are multiples of {self.factor}, found {tuple(x.shape[2:])}"
            )
        levels: list[Tensor] = []
        for block in self.down:
            x = block(x if not levels else nn.functional.max_pool3d(x, 2))
            levels.append(x)
        for block, fine in zip(self.up, levels[-2::-1], strict=True):
            x = block(torch.cat([fine, interpolate(x, scale_factor=2.0, mode="nearest")], 1))
        logits: Tensor = self.head(x)
        return logits


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv3d(channels, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, outputs),
            nn.SiLU(inplace=True),
        ]
    return nn.Sequential(*layers)
