"""NIfTI files to arrays with their affines."""

import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ....engine.inputs.regular_files import kind_of_file
from .errors import VolumeError

MAX_VOXELS = 1 << 30  # a scan of 512 × 512 has up to 4096 slices
_GZIP_RATIO = 1032  # deflate compresses to no less than 1/1032


class Nifti(NamedTuple):
    """values: (I, J, K), in the file's order of axes. affine: (4, 4) float64, from voxel indices to millimetres, RAS+."""

    values: np.ndarray
    affine: np.ndarray


def read_nifti(path: str | Path, dtype: type[np.number]) -> Nifti:
    """A `.nii` or `.nii.gz` file of rank 3 as `dtype`, with the header's slope and intercept applied.

    Raises VolumeError for a file that is damaged, foreign, of another rank, that states more voxels than it has, or whose affine is
    missing (neither sform nor qform) or singular.
    """
    import nibabel

    path = Path(path)
    try:
        if kind := kind_of_file(path):
            raise VolumeError(f"{path} is {kind}, expected a file")
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):  # NIfTI-2 is a subclass
            raise VolumeError(f"{path} is a {type(image).__name__}, expected NIfTI, .nii or .nii.gz")
        _check(path, image)
        values = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"), dtype=dtype)
    except OSError as error:
        raise VolumeError(f"{path} cannot be read: {error.strerror or _line(error)}") from error
    # what nibabel, gzip and numpy raise on damaged files
    except (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError) as error:
        raise VolumeError(f"{path} is no NIfTI file: {_line(error)}") from error
    except (ValueError, EOFError, zlib.error, OverflowError, MemoryError, KeyError) as error:
        raise VolumeError(f"{path} is damaged: {_line(error)}") from error
    return Nifti(values, np.asarray(image.affine, np.float64))


def _check(path: Path, image) -> None:  # type: ignore[no-untyped-def]  # nibabel states few types
    """Raise VolumeError by the header alone, before anything is allocated."""
    shape = image.shape
    if len(shape) != 3 or not all(size > 0 for size in shape):
        raise VolumeError(f"{path}: expected three axes, found the shape {shape}")
    most = path.stat().st_size * (_GZIP_RATIO if path.suffix == ".gz" else 1)
    dtype = image.get_data_dtype()
    if math.prod(shape) > MAX_VOXELS or math.prod(shape) * dtype.itemsize > most:
        raise VolumeError(f"{path} states {shape} voxels, more than it has, or more than {MAX_VOXELS}")
    if dtype.kind not in "biuf":
        raise VolumeError(f"{path}: expected integers or floats, found {dtype}")
    if image.header["sform_code"] == 0 and image.header["qform_code"] == 0:
        raise VolumeError(f"{path} states no affine, neither sform nor qform: where its voxels are is not known")
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
        raise VolumeError(f"{path}: its affine is singular or not finite: convert the scan again")


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
