"""Sample photographs that need no download: those of scikit-image's wheel."""

from pathlib import Path

NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def photographs() -> list[Path]:
    """Return the paths of the photographs in `NAMES`."""
    import skimage

    return [Path(skimage.__file__).parent / "data" / name for name in NAMES]
