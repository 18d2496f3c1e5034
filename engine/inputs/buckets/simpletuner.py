"""bghira/SimpleTuner: `MultiaspectImage` of `helpers/multiaspect/image.py`, `TrainingSample.calculate_target_size` of
`helpers/image_manipulation/training_sample.py`; pictures keep their aspect ratio, `crop: false`.

A picture's aspect ratio is rounded to decimals first. By area (`type=area`, RESO in megapixels; `type=pixel_area`, RESO
as the side of a square of that area) it gets the sides of that ratio and of about that area; by edge (`type=pixel`) its
shorter side becomes RESO. Both are rounded to the nearest multiple of the step, halves to even. What comes out with a
rounded ratio of 1 becomes a square: of the resolution's area, where 0.25, 0.5, 1, 2 and 4 megapixels, give or take 0.05,
stand for 512², 768², 1024², 1536² and 2048²; or of exactly RESO by edge. Pictures are scaled up and down alike. The step
is the trainer's `aspect_bucket_alignment`: 64, 32 for Qwen-Image and others.

The trainer takes, of two targets whose rounded ratios are equal, the one that it met first; that depends on the order of
its files, and here each picture gets its own. It resizes a picture to the rounded ratio, which changes its proportions by
up to half a unit of the last decimal, and crops, by default at a random place. A picture that is nearly square, but not
exactly, is by area not resized at all before the crop.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

from ...errors import ImageError, UsageError
from ..sizes import Size, size_text
from .rule import BucketRule, Option, read_side

MEGAPIXELS = (0.01, 100.0)  # The least and the most that RESO may be by area.
_SQUARES = ((0.25, 512), (0.5, 768), (1.0, 1024), (2.0, 1536), (4.0, 2048))  # megapixels, the side they stand for


@dataclass(frozen=True)
class SimpleTuner(BucketRule):
    """Settings by the trainer's own names: `resolution`, `resolution_type`, `aspect_bucket_alignment`,
    `aspect_bucket_rounding`.
    """

    resolution: int | float  # Pixels, or megapixels for `type=area`.
    type: str = "pixel_area"
    step: int = 64
    rounding: int = 2  # Decimals of an aspect ratio.

    DEFAULT: ClassVar[str] = "1024"
    OPTIONS: ClassVar[dict[str, Option]] = {
        "type": ("pixel_area", "area", "pixel"),
        "step": range(8, 65, 8),
        "rounding": range(1, 10),
    }

    @classmethod
    def read_resolution(cls, text: str, options: dict[str, Any]) -> int | float:
        """Return the side in pixels, or for `type=area` the megapixels. Raises `UsageError` for anything else."""
        if options.get("type") != "area":
            return read_side(text)
        try:
            megapixels = float(text)
        except ValueError:
            megapixels = 0.0
        if not MEGAPIXELS[0] <= megapixels <= MEGAPIXELS[1]:
            least, most = MEGAPIXELS
            raise UsageError(f"resolution: expected {least:g} to {most:g} megapixels for type=area, found {text!r}")
        return megapixels

    def fit(self, found: Size) -> tuple[Size, Size]:
        aspect = self._aspect(found)
        if aspect == 0.0:
            raise ImageError(f"{size_text(found)} pixels: an aspect ratio that rounds to 0; raise rounding")
        by = self._by_edge if self.type == "pixel" else self._by_area
        resized, target = by(found, aspect)
        if self._aspect(target) == 1.0:
            square = self._square_side()
            resized = (square, square) if resized[0] < square else resized
            target = (square, square)
        return resized, target

    def _aspect(self, size: Size) -> float:
        return round(size[0] / size[1], self.rounding)

    def _rounded(self, side: float) -> int:
        return max(int(round(side / self.step) * self.step), self.step)

    def _megapixels(self) -> float:
        return self.resolution * self.resolution / 1e6 if self.type == "pixel_area" else self.resolution

    def _square_side(self) -> int:
        if self.type == "pixel":
            return int(self.resolution)
        megapixels = self._megapixels()
        known = (side * side for value, side in _SQUARES if abs(megapixels - value) < 0.05)
        return self._rounded(sqrt(next(known, megapixels * 1e6)))

    def _by_edge(self, found: Size, aspect: float) -> tuple[Size, Size]:
        edge = int(self.resolution)
        width, height = (edge, int(edge / aspect)) if found[0] < found[1] else (int(edge * aspect), edge)
        target = self._rounded(width), self._rounded(height)
        short = max(target[0] - width, target[1] - height, 0)
        return (width + short, height + short), target

    def _by_area(self, found: Size, aspect: float) -> tuple[Size, Size]:
        edge = self._rounded(int(sqrt(self._megapixels() * 1e6)))
        if aspect == 1.0:
            return ((edge, edge) if found[0] == found[1] else found), (edge, edge)
        target = self._rounded(edge * sqrt(aspect)), self._rounded(edge / sqrt(aspect))
        if target[0] < target[1]:
            width, height = target[0], int(target[0] / aspect)
        else:
            width, height = int(target[1] * aspect), target[1]
        if target[0] > width:
            missing = target[0] - width
            width, height = width + missing, height + int(missing / aspect)
        elif target[1] > height:
            missing = target[1] - height
            width, height = width + int(missing * aspect), height + missing
        return (width, height), target
