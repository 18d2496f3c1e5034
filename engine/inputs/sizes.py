"""Sizes of targets in pixels: (width, height), as Pillow has them."""

Size = tuple[int, int]  # width, height


def as_size(size: int | Size) -> Size:
    """Return a size; a whole number is the side of a square."""
    return (size, size) if isinstance(size, int) else size


def size_text(size: int | Size) -> str:
    """Return a size for messages, for example `512×768`."""
    width, height = as_size(size)
    return f"{width}×{height}"
