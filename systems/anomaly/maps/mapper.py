"""What makes anomaly maps of volumes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True, eq=False)
class MappedVolume:
    """The map of one volume, whose axes are (D, H, W).

    error: float32 from 0 on, larger is more anomalous. reconstruction: float32 in [0, 1], the volume as the model explains it.
    scores: of the whole volume, larger is more anomalous, such as `mean_error`.
    """

    error: np.ndarray
    reconstruction: np.ndarray
    scores: dict[str, float]


class Mapper(Protocol):
    """A method that makes maps: the plain reconstruction error, the engine's restoration, the detector."""

    method: str  # "error", "restoration" or "detector"
    side: int  # voxels; volumes are cropped or padded to (side, side, side) before

    def identity(self) -> dict[str, Any]:
        """What made the maps, JSON-ready: model, its SHA-256 and configuration, settings. Stands in run.json and every file.

        A run goes on only where it is the same.
        """

    def map(self, volumes: Sequence[np.ndarray]) -> list[MappedVolume]:
        """The maps of (side, side, side) float32 volumes in [0, 1], in their order; each depends on its own volume alone."""


def error_map(volume: np.ndarray, reconstruction: np.ndarray, **scores: float) -> MappedVolume:
    """|x − x̂| of (D, H, W) float32, with `scores` beside its own.

    These are `mean_error`, `max_error`, `p99_error`, the 99th percentile, and `peak_error`, the largest value after a Gaussian of
    one voxel, to which noise adds less.
    """
    from scipy.ndimage import gaussian_filter

    error = np.abs(volume - reconstruction)
    own = {
        "mean_error": float(error.mean(dtype=np.float64)),
        "max_error": float(error.max()),
        "p99_error": float(np.percentile(error, 99)),
        "peak_error": float(gaussian_filter(error, 1.0).max()),
    }
    return MappedVolume(error, np.ascontiguousarray(reconstruction), own | scores)
