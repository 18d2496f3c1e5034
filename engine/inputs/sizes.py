"""Sizes of targets in pixels: (width, height), as Pillow has them."""

from ..errors import UsageError

Size = tuple[int, int]  # width, height
MOST_SIDE = 65536  # pixels


def as_size(size: int | Size) -> Size:
    """Return a size; a whole number is the side of a square."""
    return (size, size) if isinstance(size, int) else size


def size_text(size: int | Size) -> str:
    """Return a size for messages, for example `512×768`."""
    width, height = as_size(size)
    return f"{width}×{height}"


def simple_size(size: int | Size) -> int | Size:
    """Return a size as a whole number where it is a square."""
    width, height = as_size(size)
    return width if width == height else size


def parse_size(text: str) -> int | Size:
    """Return the size that a text such as `512` or `512x768` states, (width, height) in pixels.

    Raises `UsageError` for any other text, and for a side of more than `MOST_SIDE`.
    """
    parts = [part.strip() for part in text.lower().replace("×", "x").split("x")]
    sides = [float(part) if part.isdecimal() else 0.0 for part in parts]  # of any number of digits, unlike int
    if len(sides) > 2 or min(sides) < 1:
        raise UsageError(f"size: expected a number of pixels such as 512, or WxH such as 768x512, found {text!r}")
    if max(sides) > MOST_SIDE:
        raise UsageError(f"size: expected at most {MOST_SIDE} pixels a side, found {text!r}; give a smaller one")
    return simple_size((int(sides[0]), int(sides[-1])))
