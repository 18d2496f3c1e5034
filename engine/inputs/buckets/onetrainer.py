"""Nerogar/OneTrainer: `AspectBucketing` and `ScaleCropImage` of Nerogar/mgds.

There are seventeen aspect ratios, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4 and their inverses; each gives a bucket of the
resolution's area, its sides rounded to the nearest multiple of the step, halves to even. A picture gets the bucket whose
height over width differs least from its own, and may be scaled up. The step belongs to the model: 64, 32 for Sana, 8
where the autoencoder itself is trained. With `WxH` every picture gets that size, rounded to the step.

The trainer resizes a picture to cover its bucket, the longer side rounded to the nearest pixel, halves to even, and
crops the centre.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from ...errors import UsageError
from ..sizes import Size
from .rule import STEPS, BucketRule, Option, read_side, read_size

RATIOS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0)


@dataclass(frozen=True)
class OneTrainer(BucketRule):
    """Settings by the trainer's own names: `resolution`, the model's quantization."""

    resolution: int | Size  # The side of a square of a bucket's area; or a fixed size.
    step: int = 64

    DEFAULT: ClassVar[str] = "512"
    OPTIONS: ClassVar[dict[str, Option]] = {"step": STEPS}

    @classmethod
    def read_resolution(cls, text: str, options: dict[str, Any]) -> int | Size:
        """Return the side `N` or the fixed size `WxH` that `text` states. Raises `UsageError` for anything else."""
        return read_size(text) if "x" in text.lower() else read_side(text)

    def __post_init__(self) -> None:
        if min(min(bucket) for bucket in self._buckets) < self.step:
            raise UsageError(f"resolution: {self.resolution} gives a bucket a side of 0 pixels at step={self.step}")

    def _rounded(self, side: float) -> int:
        return round(side / self.step) * self.step

    @cached_property
    def _buckets(self) -> list[Size]:
        """The buckets as (width, height). The order decides between equals, and is that of a set of (height, width), as
        in the trainer.
        """
        if not isinstance(self.resolution, int):
            width, height = self.resolution
            return [(self._rounded(width), self._rounded(height))]
        wide = [
            (1.0 / math.sqrt(1.0 * ratio) * self.resolution, ratio / math.sqrt(1.0 * ratio) * self.resolution)
            for ratio in RATIOS
        ]
        exact = [*wide, *((width, height) for height, width in wide)]
        return [(width, height) for height, width in {(self._rounded(h), self._rounded(w)) for h, w in exact}]

    def fit(self, found: Size) -> tuple[Size, Size]:
        aspect = found[1] / found[0]
        bucket = min(self._buckets, key=lambda size: abs(size[1] / size[0] - aspect))
        if aspect > bucket[1] / bucket[0]:
            return (bucket[0], round(found[1] * (bucket[0] / found[0]))), bucket
        return (round(found[0] * (bucket[1] / found[1])), bucket[1]), bucket
