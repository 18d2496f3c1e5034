"""A rotating maximum-intensity projection of a volume and its map."""

import numpy as np
from PIL import Image

from .colours import Scales, overlay

FRAMES, PIXELS, CUBE = 36, 160, 48  # over 360°; of a frame's side; voxels of a side that is rotated
MILLISECONDS = 110
DIMMED = 0.6  # the share of full white that the volume has, so that the map stays visible over bone


def projections(volume: np.ndarray, error: np.ndarray, scales: Scales) -> list[np.ndarray]:
    """`FRAMES` pictures, uint8 (PIXELS, PIXELS, 3), turning round the axis of D, head up, the first one from the front.

    volume: (side, side, side) from 0 to 1; error: the same shape. Each ray shows the volume's maximum in grey and the
    map's in colour over it. What is outside the cylinder that the cube holds is cut off when it turns.
    """
    cubes = [_shrink(values) for values in (volume, error)]
    half = [[_project(cube, 2 * np.pi * i / FRAMES) for cube in cubes] for i in range(FRAMES // 2)]
    # from behind, the same rays come in the reversed order
    pairs = half + [[image[:, ::-1] for image in pair] for pair in half]
    return [overlay(DIMMED * _enlarge(grey), _enlarge(colour), scales) for grey, colour in pairs]


def _shrink(values: np.ndarray) -> np.ndarray:
    from scipy.ndimage import zoom

    factor = CUBE / max(values.shape)
    return zoom(values, factor, order=1, grid_mode=True, mode="nearest") if factor < 1 else values


def _project(cube: np.ndarray, angle: float) -> np.ndarray:
    """The maximum along H of the cube turned round the axis of D, as an image with the head up and, at 0, W to the left."""
    from scipy.ndimage import rotate

    turned = rotate(cube, np.degrees(angle), axes=(1, 2), reshape=False, order=1)
    return turned.max(axis=1)[::-1, ::-1]


def _enlarge(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image.astype(np.float32)).resize((PIXELS, PIXELS), Image.Resampling.BILINEAR))
