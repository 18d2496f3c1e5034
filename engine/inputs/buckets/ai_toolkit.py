"""ostris/ai-toolkit: `get_bucket_for_image_size` of `toolkit/buckets.py`, `setup_buckets` of
`toolkit/dataloader_mixins.py`.

A picture of more than the resolution's area is scaled down to that area, a smaller one is not scaled. Of the four sizes
that have each side rounded down or up to the step, it gets the one nearest to that area and not above the resolution's.
Versions that have a fixed list of buckets, those of SDXL scaled to the resolution, are had by `sdxl-list`: a picture gets the
bucket that removes the fewest pixels, at the resolution or at its own where that is less. Neither scales a picture up,
but for the rounding. The step belongs to the model, `get_bucket_divisibility`: 16 for most, 32 for FLUX.1 and SD 3.

The trainer resizes a picture to cover its bucket, both sides rounded up, and crops the centre.
"""

import math
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

from ..sizes import Size
from .rule import STEPS, BucketRule, Option, down, read_side

# The sizes of SDXL's training that the trainer lists, landscape.
_SDXL = [
    *((width, 512) for width in range(2048, 1855, -64)),
    *((width, 576) for width in range(1792, 1663, -64)),
    *((1600, 640), (1536, 640)),
    *((1472, 704), (1408, 704), (1344, 704)),
    *((1344, 768), (1280, 768)),
    *((1216, 832), (1152, 832)),
    *((1152, 896), (1088, 896)),
    *((1088, 960), (1024, 960)),
]
_PORTRAIT = [(height, width) for width, height in reversed(_SDXL) if (width, height) != (1344, 704)]
# In the trainer's order, which decides between equals.
_LISTED = [(1024, 1024), *_SDXL, *_PORTRAIT, (8192, 128), (128, 8192)]


@dataclass(frozen=True)
class AIToolkit(BucketRule):
    """Settings by the trainer's own names: `resolution`, the model's bucket divisibility."""

    resolution: int  # The side of a square; its area is the most of a bucket.
    step: int = 16
    sdxl_list: bool = False

    DEFAULT: ClassVar[str] = "512"
    OPTIONS: ClassVar[dict[str, Option]] = {"step": STEPS, "sdxl-list": None}

    @classmethod
    def read_resolution(cls, text: str, options: dict[str, Any]) -> int:
        """Return the side that `text` states; the trainer has no other form. Raises `UsageError` for anything else."""
        return read_side(text)

    def fit(self, found: Size) -> tuple[Size, Size]:
        width, height = found
        bucket = self._listed(width, height) if self.sdxl_list else self._rounded(width, height)
        scale = max(bucket[0] / width, bucket[1] / height)
        return (math.ceil(width * scale), math.ceil(height * scale)), bucket

    def _rounded(self, width: int, height: int) -> Size:
        most = self.resolution * self.resolution
        area = min(width * height, most)
        scale = (area / (width * height)) ** 0.5
        steps = width * scale / self.step, height * scale / self.step
        sides = ((math.floor(count) * self.step, math.ceil(count) * self.step) for count in steps)
        sizes = [size for size in product(*sides) if 0 < size[0] * size[1] <= most]
        if not sizes:  # too narrow a picture: its shorter side is one step, though that exceeds the area
            return max(self.step, math.floor(steps[0]) * self.step), max(self.step, math.floor(steps[1]) * self.step)
        return min(sizes, key=lambda size: abs(size[0] * size[1] - area))

    def _listed(self, width: int, height: int) -> Size:
        scale = min(self.resolution, int((width * height) ** 0.5)) / 1024
        buckets = [(down(int(w * scale), self.step), down(int(h * scale), self.step)) for w, h in _LISTED]
        if (width, height) in buckets:
            return width, height

        def removed(bucket: Size) -> int:
            cover = max(bucket[0] / width, bucket[1] / height)
            new_width, new_height = int(width * cover), int(height * cover)
            return (new_width - bucket[0]) * new_height + (new_height - bucket[1]) * new_width

        return min(buckets, key=removed)
