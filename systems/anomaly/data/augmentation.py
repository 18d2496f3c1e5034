"""Random changes of a training volume, the same for the same seed, epoch and index."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample

from ....engine.errors import UsageError


@dataclass(frozen=True)
class Augmentation:
    """How far each change goes; each is drawn by itself, with `probability`.

    Of the geometry: a mirror image along W; a turn in the plane of H and W by up to `degrees`; a shift along H and W by up to
    `shift` of their sides; a size from `scale`. Of the values: noise of the standard deviation `noise`; `brightness`, added at most;
    a `contrast` round the mean. All geometric changes are one trilinear sampling, with zeros from beyond the edge.
    """

    degrees: float = 15.0
    shift: float = 0.05
    scale: tuple[float, float] = (0.9, 1.1)
    noise: float = 0.01
    brightness: float = 0.05
    contrast: tuple[float, float] = (0.95, 1.05)
    probability: float = 0.5

    def __post_init__(self) -> None:
        ranges = (0 < self.scale[0] <= self.scale[1], 0 < self.contrast[0] <= self.contrast[1])
        if not all(ranges) or not 0 <= self.probability <= 1:
            raise UsageError(f"expected ranges (low, high) above 0 and a probability from 0 to 1, found {self}")

    def __call__(self, volume: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A changed copy of a volume, (1, D, H, W) floats in [0, 1]; the same shape, dtype and range."""
        # all is drawn first, in one order, so that whether one change happens has no effect on the others
        happens = torch.rand(7, generator=generator) < self.probability
        flip, turn, move, resize, noise, brightness, contrast = happens.tolist()
        angle, right, front, size, light, range_ = torch.rand(6, generator=generator, dtype=torch.float64).tolist()
        if flip or turn or move or resize:
            theta = affine_of(
                volume.shape[1:],
                flip,
                math.radians(self.degrees) * (2 * angle - 1) if turn else 0.0,
                (self.shift * (2 * front - 1), self.shift * (2 * right - 1)) if move else (0.0, 0.0),
                _between(self.scale, size) if resize else 1.0,
            )
            sampling = affine_grid(theta.to(volume.dtype)[None], [1, *volume.shape], align_corners=False)
            volume = grid_sample(volume[None], sampling, align_corners=False)[0]
        if noise:
            volume = volume + self.noise * torch.randn(volume.shape, generator=generator, dtype=volume.dtype)
        if contrast:
            volume = volume.mean() + _between(self.contrast, range_) * (volume - volume.mean())
        if brightness:
            volume = volume + self.brightness * (2 * light - 1)
        return volume.clamp(0, 1)


def affine_of(
    shape: tuple[int, ...], flip: bool, angle: float, shift: tuple[float, float], scale: float
) -> torch.Tensor:
    """`affine_grid`'s (3, 4) float64 matrix, from places of the changed volume to places of the given one.

    shape: (D, H, W). angle: radians, from H's direction to W's. shift: of H and W, as parts of their sides, towards larger indices.
    The given volume is mirrored, enlarged by `scale` and turned round its centre, then shifted.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=torch.float64)  # of (W, H, D)
    mirror = torch.diag(torch.tensor([-1.0 if flip else 1.0, 1, 1], dtype=torch.float64))
    sides = torch.tensor(shape[::-1], dtype=torch.float64)
    # coordinates run from -1 to 1 along each side, so a turn between sides of different lengths has to count in voxels
    linear = mirror @ turn * (sides[None, :] / sides[:, None]) / scale
    moved = torch.tensor([2 * shift[1], 2 * shift[0], 0], dtype=torch.float64)
    return torch.cat([linear, -(linear @ moved)[:, None]], dim=1)


def sample_generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """The generator of one sample in one epoch, independent of the order and the process in which samples are drawn."""
    (state,) = np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def _between(bounds: tuple[float, float], part: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * part
