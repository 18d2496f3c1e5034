"""Three slices of a volume, the right way up."""

import numpy as np
from PIL import Image, ImageDraw

from .colours import Scales, grey, overlay

# the plane's name -> its axis; D runs to the head, H to the front, W to the patient's right
PLANES = {"axial": 0, "coronal": 1, "sagittal": 2}
PIXELS = 128  # of a slice's side, about
CROSS, OUTLINE = (90, 200, 250), (80, 250, 120)


def slice_of(volume: np.ndarray, plane: str, place: int) -> np.ndarray:
    """A slice of a (D, H, W) array as an image, rows from the top.

    As radiologists look at them: axial from the feet, front up; coronal from the front, head up; in both the patient's right is on the
    left. Sagittal from the patient's left, head up, front on the left.
    """
    return np.take(volume, place, PLANES[plane])[::-1, ::-1]


def maximum_place(error: np.ndarray) -> tuple[int, int, int]:
    """Where the map is largest, (d, h, w): smoothed over a 32nd of the side, so that a single voxel does not decide, and without the
    outer eighth of each side, where models lack what lies beyond the edge.
    """
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(error, max(error.shape) / 32)
    edges = [size // 8 for size in error.shape]
    inner = smooth[tuple(slice(edge, size - edge) for edge, size in zip(edges, error.shape, strict=True))]
    found = np.unravel_index(int(inner.argmax()), inner.shape)
    d, h, w = (int(i) + edge for i, edge in zip(found, edges, strict=True))
    return d, h, w


def sheet(
    volume: np.ndarray, error: np.ndarray, reconstruction: np.ndarray, mask: np.ndarray | None, scales: Scales
) -> np.ndarray:
    """Nine pictures, uint8 (3 S, 3 S, 3): the planes of `PLANES` through `maximum_place` from left to right; the volume, the map over
    it, and the reconstruction from top to bottom.

    In the first row a cross marks the place, in the second one the mask has an outline.
    """
    place = maximum_place(error)
    rows: list[list[Image.Image]] = [[], [], []]
    for plane, axis in PLANES.items():
        one, its_map, rebuilt = (
            _enlarge(slice_of(values, plane, place[axis])) for values in (volume, error, reconstruction)
        )
        pictures = [
            Image.fromarray(pixels)
            for pixels in (grey(one, scales), overlay(one, its_map, scales), grey(rebuilt, scales))
        ]
        _cross(pictures[0], plane, place, volume.shape)
        if mask is not None:
            pictures[1] = _outline(pictures[1], slice_of(mask, plane, place[axis]))
        for row, picture in zip(rows, pictures, strict=True):
            row.append(picture)
    return np.concatenate([np.concatenate([np.asarray(picture) for picture in row], axis=1) for row in rows])


def _enlarge(values: np.ndarray) -> np.ndarray:
    """About `PIXELS` high and wide, by a whole factor, bilinear."""
    factor = max(1, round(PIXELS / max(values.shape)))
    size = (values.shape[1] * factor, values.shape[0] * factor)
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))


def _cross(picture: Image.Image, plane: str, place: tuple[int, int, int], shape: tuple[int, ...]) -> None:
    """Draw short lines from the edges towards the place, which stays free."""
    row, column = (axis for axis in range(3) if axis != PLANES[plane])
    x, y = (
        round((shape[axis] - place[axis] - 0.5) * length / shape[axis])
        for axis, length in zip((column, row), picture.size, strict=True)
    )
    draw, gap = ImageDraw.Draw(picture), picture.width // 8
    for line in (
        (0, y, x - gap, y),
        (x + gap, y, picture.width, y),
        (x, 0, x, y - gap),
        (x, y + gap, x, picture.height),
    ):
        if line[0] <= line[2] and line[1] <= line[3]:
            draw.line(line, CROSS)


def _outline(picture: Image.Image, mask: np.ndarray) -> Image.Image:
    from scipy.ndimage import binary_erosion

    large = np.asarray(Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST))
    pixels = np.array(picture)
    pixels[large & ~binary_erosion(large)] = OUTLINE
    return Image.fromarray(pixels)
