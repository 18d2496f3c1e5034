"""kohya-ss/musubi-tuner: `BucketSelector` of `dataset/bucket.py`, `resize_image_to_bucket` of
`dataset/media_utils.py`.

Buckets have at most about the area of the resolution and shorter sides from half its root on, all multiples of the
step; a picture gets the bucket whose aspect ratio differs least from its own. With `no-upscale` a picture of no more
than the resolution's area keeps its size, rounded down to the step; a larger one gets a bucket. The step belongs to the
architecture: 16, and 32 for HiDream-O1.

The trainer resizes a picture to cover its bucket, the longer side rounded to the nearest pixel, and crops the centre.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from ...errors import UsageError
from ..sizes import Size, size_text
from .rule import BucketRule, Option, closest, down, half_up


@dataclass(frozen=True)
class Musubi(BucketRule):
    """Settings by the trainer's own names: `resolution`, the architecture's step, `bucket_no_upscale`."""

    resolution: Size  # Its area is that of the buckets.
    step: int = 16
    no_upscale: bool = False

    DEFAULT: ClassVar[str] = "960x544"
    OPTIONS: ClassVar[dict[str, Option]] = {"step": range(16, 33, 16), "no-upscale": None}

    def __post_init__(self) -> None:
        if math.isqrt(self._area) // 2 < self.step:
            raise UsageError(
                f"resolution: expected at least the area of {size_text(2 * self.step)} pixels for step={self.step}, "
                f"found {size_text(self.resolution)}"
            )

    @property
    def _area(self) -> int:
        return self.resolution[0] * self.resolution[1]

    @cached_property
    def _buckets(self) -> list[Size]:
        square = int(math.sqrt(self._area))
        buckets: set[Size] = set()
        for side in range(down(square // 2, self.step), square + self.step, self.step):
            other = down(self._area // side, self.step)
            buckets |= {(side, other), (other, side)}
        return sorted(buckets)

    def fit(self, found: Size) -> tuple[Size, Size]:
        width, height = found
        if self.no_upscale and width * height <= self._area:
            bucket = (down(width, self.step), down(height, self.step))
        else:
            bucket = closest(self._buckets, width / height)
        scale = max(bucket[0] / width, bucket[1] / height)
        return (half_up(width * scale), half_up(height * scale)), bucket
