"""Crops of photographs: seeded places, no flips; whole photographs are held out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...engine.errors import UsageError
from ...engine.inputs.images import load_image

SUFFIXES = (".png", ".jpg", ".jpeg")
HELD_OUT = 0.2  # of the photographs
SEED = 0
TRIES = 200  # places that are drawn for a crop before more overlap is allowed


def read_photographs(folder: Path, most: int) -> tuple[list[Path], list[Path]]:
    """Those to train with and those held out. Raises `UsageError` for fewer than 3."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[:most]
    if len(paths) < 3:
        raise UsageError(f"{folder}: expected 3 photographs or more ({', '.join(SUFFIXES)}), found {len(paths)}")
    order = np.random.default_rng(SEED).permutation(len(paths))
    away = set(order[: max(1, round(HELD_OUT * len(paths)))].tolist())
    return [p for i, p in enumerate(paths) if i not in away], [p for i, p in enumerate(paths) if i in away]


def write_crops(paths: Sequence[Path], folder: Path, side: int, count: int, first: int) -> list[str]:
    """Write `count` crops of each photograph to `folder`/ID_{n}, n from `first` on, and return their names, ID_{n}/{stem}_{i}.png."""
    names = []
    for number, path in enumerate(paths, first):
        pixels = load_image(path, None, cell=1).pixels
        place = folder / f"ID_{number}"
        place.mkdir(parents=True, exist_ok=True)
        for i, (top, left) in enumerate(crop_places(pixels.shape[:2], side, count, (SEED, number))):
            name = f"ID_{number}/{path.stem}_{i:04d}.png"
            Image.fromarray(pixels[top : top + side, left : left + side]).save(folder / name)
            names.append(name)
    return names


def crop_places(size: Sequence[int], side: int, count: int, seed: Sequence[int]) -> list[tuple[int, int]]:
    """(top, left) of each crop of a picture of that (height, width): no two overlap by more than half, where places allow it.

    Raises `UsageError` for a picture that is smaller than a crop.
    """
    if min(size) < side:
        raise UsageError(f"expected photographs of {side}×{side} pixels or more, found {size[1]}×{size[0]}")
    random = np.random.default_rng(tuple(seed))
    places: list[tuple[int, int]] = []
    allowed = 0.5
    while len(places) < count:
        for _ in range(TRIES):
            top, left = (int(random.integers(length - side + 1)) for length in size)
            shared = (max(0, side - abs(top - y)) * max(0, side - abs(left - x)) for y, x in places)
            if all(area <= allowed * side * side for area in shared):
                places.append((top, left))
                break
        else:
            allowed = min(1.0, allowed + 0.1)
    return places
