"""Volumes in grey, and maps over them in colour, on one scale."""

from typing import NamedTuple

import numpy as np

COLOUR_MAP = "inferno"  # of matplotlib: its lightness rises evenly with the value
OPAQUE = 0.9  # how much of the map's colour covers the volume at the end of the scale


class Scales(NamedTuple):
    """The values at the end of both scales, above 0: of white in volumes, and of the map's last colour."""

    volume: float
    error: float


def grey(values: np.ndarray, scales: Scales) -> np.ndarray:
    """A volume's values as uint8 (…, 3)."""
    shade = np.round(np.clip(values / scales.volume, 0, 1) * 255).astype(np.uint8)
    return np.repeat(shade[..., None], 3, axis=-1)


def overlay(volume: np.ndarray, error: np.ndarray, scales: Scales) -> np.ndarray:
    """The map's colours over the volume in grey, uint8 (…, 3); opacity rises with the map's value, from none at 0."""
    from matplotlib import colormaps

    part = np.clip(error / scales.error, 0, 1)
    opacity = OPAQUE * part[..., None]
    mixed = opacity * colormaps[COLOUR_MAP](part)[..., :3] * 255 + (1 - opacity) * grey(volume, scales)
    return np.round(mixed).astype(np.uint8)


def legend() -> np.ndarray:
    """The scale from left to right, over black, over middle grey and over white: uint8 (24, 256, 3)."""
    volume = np.repeat(np.linspace(0, 1, 3), 8)[:, None] * np.ones(256)
    return overlay(volume, np.broadcast_to(np.linspace(0, 1, 256), volume.shape), Scales(1, 1))
