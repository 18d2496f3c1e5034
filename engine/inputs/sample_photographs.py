"""Photographs that are on every machine: those in scikit-image's wheel."""

from pathlib import Path

NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def photographs() -> list[Path]:
    """Files of `NAMES`."""
    import skimage

    return [Path(skimage.__file__).parent / "data" / name for name in NAMES]
