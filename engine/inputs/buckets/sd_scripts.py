"""kohya-ss/sd-scripts: `BucketManager` of `library/train_util.py`, `make_bucket_resolutions` of
`library/model_util.py`.

Buckets have at most the area of the resolution, sides that are multiples of the step, and sides within the limits; a
picture gets the bucket whose aspect ratio differs least from its own. With `no-upscale` there are no fixed buckets: a
picture of more than the resolution's area is scaled down to about that area, and any picture's sides are rounded down
to the step; the limits do not matter then, as in the trainer.

The trainer resizes a picture to cover its bucket, the longer side rounded to the nearest pixel, and crops the centre.
With `no-upscale` it does not resize a picture within the area, so that up to a step of pixels is cropped on either
axis.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from ...errors import ImageError, UsageError
from ..sizes import Size, size_text
from .rule import SIDES, STEPS, BucketRule, Option, closest, down, half_up


@dataclass(frozen=True)
class SdScripts(BucketRule):
    """Settings by the trainer's own names: `resolution`, `bucket_reso_steps`, `min_bucket_reso`, `max_bucket_reso`,
    `bucket_no_upscale`.
    """

    resolution: Size  # Its area is the most of a bucket.
    step: int = 64
    min: int = 256
    max: int = 1024
    no_upscale: bool = False

    DEFAULT: ClassVar[str] = "512"
    OPTIONS: ClassVar[dict[str, Option]] = {"step": STEPS, "min": SIDES, "max": SIDES, "no-upscale": None}

    def __post_init__(self) -> None:
        sides = sorted(self.resolution)
        if self.min < self.step:
            raise UsageError(f"min={self.min} is below step={self.step}; set min={self.step}")
        if sides[0] < self._limits[0]:
            raise UsageError(f"min={self.min} is over the resolution {size_text(self.resolution)}; set min={sides[0]}")
        if sides[1] > self._limits[1]:
            raise UsageError(f"max={self.max} is below the resolution {size_text(self.resolution)}; set max={sides[1]}")

    @property
    def _limits(self) -> tuple[int, int]:
        """The least and the greatest side, widened to multiples of the step."""
        return down(self.min, self.step), down(self.max + self.step - 1, self.step)

    @property
    def _area(self) -> int:
        return self.resolution[0] * self.resolution[1]

    @cached_property
    def _buckets(self) -> list[Size]:
        least, greatest = self._limits
        square = int(math.sqrt(self._area) // self.step) * self.step
        buckets = {(square, square)}
        for width in range(least, greatest + 1, self.step):
            height = min(greatest, down(self._area // width, self.step))
            if height >= least:
                buckets |= {(width, height), (height, width)}
        return sorted(buckets)

    def fit(self, found: Size) -> tuple[Size, Size]:
        if self.no_upscale:
            resized = self._shrunk(found)
            return resized, (down(resized[0], self.step), down(resized[1], self.step))
        width, height = found
        bucket = found if found in self._buckets else closest(self._buckets, width / height)
        wider = width / height > bucket[0] / bucket[1]
        scale = bucket[1] / height if wider else bucket[0] / width
        return (half_up(width * scale), half_up(height * scale)), bucket

    def _shrunk(self, found: Size) -> Size:
        """Return a size of about the resolution's area with one side on the step: of the two such sizes the one whose
        other side, rounded to the step, keeps the aspect ratio better. A picture within the area stays as it is.
        """
        if found[0] * found[1] <= self._area:
            return found
        aspect = found[0] / found[1]
        exact_width = math.sqrt(self._area * aspect)
        width = self._rounded(exact_width)
        height_for_width = self._rounded(width / aspect)
        height = self._rounded(self._area / exact_width)
        width_for_height = self._rounded(height * aspect)
        if not (height_for_width and height):
            raise ImageError(f"{size_text(found)} pixels: a picture of this shape has no bucket; leave out no-upscale")
        if abs(width / height_for_width - aspect) < abs(width_for_height / height - aspect):
            return width, half_up(width / aspect)
        return half_up(height * aspect), height

    def _rounded(self, value: float) -> int:
        return down(half_up(value), self.step)
