"""`.npy` files to volumes in [0, 1]."""

import logging
import tokenize
from pathlib import Path

import numpy as np

from ....engine.inputs.regular_files import kind_of_file
from .errors import VolumeError

MAX_SIDE = 1024  # voxels; a vertebra at 1 mm takes 128, so a larger side is another thing or a damaged header
# what numpy's parser of headers raises on damaged ones, beside OSError
HEADER_ERRORS = (ValueError, TypeError, OverflowError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError)
_log = logging.getLogger(__name__)


def read_volume(path: str | Path, side: int | None = None) -> np.ndarray:
    """A `.npy` file of integers or floats of rank 3 as (D, H, W) float32 in [0, 1].

    side: the cube's side in voxels; larger axes are cropped and smaller ones padded with zeros, both round the centre; None
    keeps the file's size. Values outside [0, 1] are clipped, with a warning that names the file. The array is mapped, never
    allocated by what its header states. Raises VolumeError for a file that is truncated, pickled, foreign, of another rank, or
    has values that are not finite.
    """
    path = Path(path)
    try:
        if kind := kind_of_file(path):
            raise VolumeError(f"{path} is {kind}, expected a file")
        mapped = np.lib.format.open_memmap(path, mode="r")  # refuses objects, and shapes larger than the file
    except OSError as error:
        raise VolumeError(f"{path} cannot be read: {error.strerror or error}") from error
    except HEADER_ERRORS as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise VolumeError(f"{path} is no complete .npy file of numbers: {reason}") from error
    if mapped.ndim != 3 or not all(1 <= size <= MAX_SIDE for size in mapped.shape):
        raise VolumeError(f"{path}: expected three axes of 1 to {MAX_SIDE} voxels, found the shape {mapped.shape}")
    return to_unit_range(fit(mapped, side) if side else mapped, str(path))


def to_unit_range(values: np.ndarray, name: str) -> np.ndarray:
    """Integers, floats or booleans of any shape as float32 in [0, 1]; clipped with a warning that begins with `name`.

    Raises VolumeError for another dtype and for values that are not finite.
    """
    if values.dtype.kind not in "biuf":
        raise VolumeError(f"{name}: expected integers or floats, found {values.dtype}")
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, and is refused below
        volume = np.array(values, dtype=np.float32, order="C")
    if not np.isfinite(volume).all():
        count = int((~np.isfinite(volume)).sum())
        raise VolumeError(f"{name} has {count} values that are NaN or infinite: make the volume again")
    low, high = float(volume.min()), float(volume.max())
    if low < 0 or high > 1:
        _log.warning("%s: values from %g to %g are clipped to [0, 1]", name, low, high)
        np.clip(volume, 0, 1, out=volume)
    return volume


def fit(volume: np.ndarray, side: int) -> np.ndarray:
    """A (D, H, W) array as (side, side, side), cropped or padded with zeros round the centre; the same dtype.

    Where a difference is odd, the voxel more is at the end.
    """
    result = np.zeros((side,) * 3, volume.dtype)
    take, put = zip(*(_overlap(size, side) for size in volume.shape), strict=True)
    result[put] = volume[take]
    return result


def _overlap(size: int, side: int) -> tuple[slice, slice]:
    """Which voxels of an axis of `size` are taken, and where they are put on one of `side`."""
    count = min(size, side)
    take, put = (size - count) // 2, (side - count) // 2
    return slice(take, take + count), slice(put, put + count)
