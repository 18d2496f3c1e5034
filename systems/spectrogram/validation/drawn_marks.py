"""Marks that are drawn into all pictures of a user, such as the user's number: a classifier would read them.

A mark is where (1) the pictures of one user do not differ, (2) most of the other users' do not look so, nor does the user's background, (3) a small
region ends with a sharp edge. By (2) a background, an axis and a line of standing clutter are none, nor what a slow walker never reaches.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

LEAST_PICTURES = 4  # of a user: fewer are alike by chance
STEADY = 6.0  # levels of 255: the largest standard deviation over the pictures of a user
ALIKE = 24.0  # levels: what differs less in a channel is the same colour
OTHERS = 0.5  # the largest share of the other users' pictures that may look so
SHARP = 40.0  # levels: the least difference to the surrounding pixels, in the mean
LARGEST = 0.35  # of a side of the picture; a mark of three digits is not larger
LEAST_AREA = 4  # pixels
GAP = 2  # pixels between the strokes of a mark


class Mark(NamedTuple):
    """A region, rows top to bottom and columns left to right, ends excluded, and its pixels."""

    user: int
    top: int
    left: int
    bottom: int
    right: int
    pixels: int


def drawn_marks(pictures: Mapping[int, np.ndarray]) -> list[Mark]:
    """The marks of all users. pictures: by user, (N, H, W, 3) uint8, of one size; users of fewer than four are left out.

    A mark in the colour of the background is not found, nor one that all users have: that one tells nobody apart.
    """
    found = []
    for user, own in pictures.items():
        if len(own) >= LEAST_PICTURES:
            others = [values for other, values in pictures.items() if other != user]
            found += _marks_of(user, own.astype(np.float32), others)
    return found


def _marks_of(user: int, own: np.ndarray, others: list[np.ndarray]) -> list[Mark]:
    from scipy.ndimage import binary_dilation, label

    mean = own.mean(0)
    steady = own.std(0).max(-1) <= STEADY
    unusual = steady.copy()
    unusual[steady] = np.abs(mean[steady] - _background(own)).max(-1) >= ALIKE
    if others:
        shares = [(np.abs(values[:, unusual] - mean[unusual]).max(-1) < ALIKE).mean(0) for values in others]
        unusual[unusual] = np.mean(shares, 0) <= OTHERS  # each user counts the same
    groups, count = label(binary_dilation(unusual, iterations=GAP), np.ones((3, 3)))
    marks = []
    for number in range(1, count + 1):
        region = unusual & (groups == number)
        rows, columns = (np.flatnonzero(region.any(axis)) for axis in (1, 0))
        height, width = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
        small = height <= LARGEST * mean.shape[0] and width <= LARGEST * mean.shape[1]
        if small and region.sum() >= LEAST_AREA and _edge(mean, region) >= SHARP:
            box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
            marks.append(Mark(user, *box, int(region.sum())))
    return marks


def _background(own: np.ndarray) -> np.ndarray:
    """The commonest colour of all pixels, (3,), to `ALIKE` levels."""
    steps = (own / ALIKE).round().astype(np.int64).reshape(-1, 3)
    code = int(np.bincount(steps @ (256, 16, 1)).argmax())  # 255 / ALIKE is below 16
    return ALIKE * np.array([code // 256, code // 16 % 16, code % 16], np.float32)


def _edge(mean: np.ndarray, region: np.ndarray) -> float:
    """How sharply the region ends, in levels: over the pixels around it, the mean of the largest difference to its pixels within two.

    Two, because the outermost pixels of a letter are often a mixture.
    """
    from scipy.ndimage import binary_dilation

    ring = binary_dilation(region, np.ones((3, 3))) & ~region
    if not ring.any():
        return 0.0
    padded = np.pad(mean, ((2, 2), (2, 2), (0, 0)))
    inside = np.pad(region, 2)
    rows, columns = np.nonzero(ring)
    largest = np.zeros(len(rows))
    for down in range(5):
        for right in range(5):
            place = (rows + down, columns + right)
            difference = np.abs(padded[place] - mean[rows, columns]).max(-1)
            largest = np.maximum(largest, np.where(inside[place], difference, 0.0))
    return float(largest.mean())
