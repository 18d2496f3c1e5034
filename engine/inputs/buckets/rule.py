"""What every trainer's rule has: a picture's size in, the size that it is resized to and the size that is trained on
out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from ...errors import ImageError, UsageError
from ..sizes import Size, size_text

# What an option may be: whole numbers as a range, names as a tuple, None for an option without a value.
Option = range | tuple[str, ...] | None
SIDES = range(8, 16385)  # The sides in pixels that an option or a resolution may ask for.
STEPS = range(8, 513, 8)  # The steps in pixels; every autoencoder has cells of at least 8 pixels.


@dataclass(frozen=True)
class BucketRule(ABC):
    """A trainer's arithmetic with its settings.

    Sizes are (width, height) in pixels, those of pictures after their EXIF orientation was applied.
    """

    resolution: Any  # As `read_resolution` returns it.

    DEFAULT: ClassVar[str]  # The resolution without RESO, as it would be written.
    OPTIONS: ClassVar[dict[str, Option]] = {}  # By the name that is written; the field has `_` for `-`.

    @classmethod
    def read_resolution(cls, text: str, options: dict[str, Any]) -> Any:
        """Return the resolution that `text` states beside the other options: here `N`, the side of a square, or `WxH`.

        Raises `UsageError` for anything else.
        """
        return read_size(text)

    @abstractmethod
    def fit(self, found: Size) -> tuple[Size, Size]:
        """Return the size that the trainer resizes a picture of size `found` to, and the size of the centre that it
        crops from that, which is what it trains on.

        Raises `ImageError` for a picture for which the trainer has no size.
        """

    def target(self, found: Size) -> Size:
        """Return the size that the trainer trains on for a picture of size `found`.

        Raises `ImageError` for a picture for which the trainer has no size.
        """
        size = self.fit(found)[1]
        if min(size) < 1:
            raise ImageError(f"no bucket for {size_text(found)} pixels: it would be one of {size_text(size)}")
        return size


def read_size(text: str) -> Size:
    """Return the size that `N` or `WxH` states. Raises `UsageError` for anything else."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and int(side) in SIDES for side in sides):
        raise UsageError(f"resolution: expected N or WxH, each from {SIDES[0]} to {SIDES[-1]} pixels, found {text!r}")
    return int(sides[0]), int(sides[-1])


def read_side(text: str) -> int:
    """Return the side that `N` states. Raises `UsageError` for anything else."""
    if not (text.isascii() and text.isdigit() and int(text) in SIDES):
        raise UsageError(f"resolution: expected N from {SIDES[0]} to {SIDES[-1]} pixels, found {text!r}")
    return int(text)


def closest(buckets: list[Size], aspect: float) -> Size:
    """Return the bucket whose width over height differs least from `aspect`, the first of equals."""
    return min(buckets, key=lambda size: abs(size[0] / size[1] - aspect))


def down(value: int, step: int) -> int:
    """Return the multiple of `step` at or below `value`."""
    return value - value % step


def half_up(value: float) -> int:
    """Return a positive `value` rounded to a whole number, halves up."""
    return int(value + 0.5)
