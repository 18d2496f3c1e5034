"""Sizes of targets in pixels: (width, height), as Pillow has them."""

from ..errors import UsageError

Size = tuple[int, int]  # width, height


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

    Raises `UsageError` for any other text.
    """
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"size: expected a number of pixels such as 512, or WxH such as 768x512, found {text!r}")
    return simple_size((int(parts[0]), int(parts[-1])))
