"""MedMNIST's `.npz` archives of volumes, such as AdrenalMNIST3D."""

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ....engine.inputs.regular_files import kind_of_file
from .errors import VolumeError
from .volume import ABNORMAL, NORMAL, Volume
from .volume_reader import HEADER_ERRORS

MAX_BYTES = 1 << 32  # of one array; AdrenalMNIST3D's training split has 311 MB


def read_archive(path: str | Path, split: str) -> list[Volume]:
    """The volumes of a split, `train`, `val` or `test`: each its own patient, label 0 normal, any other abnormal.

    The archive holds `{split}_images`, (N, D, H, W) uint8, and `{split}_labels`, (N, 1) or (N,) integers. Greys from 0 to 255 become 0 to 1. Nothing is allocated by
    what a header states: arrays are as large as the data that is there. Raises VolumeError for an archive without the split and
    for one that is damaged, pickled or of other shapes.
    """
    path = Path(path)
    try:
        if kind := kind_of_file(path):
            raise VolumeError(f"{path} is {kind}, expected a file")
        with zipfile.ZipFile(path) as archive:
            images = _read_array(archive, f"{split}_images.npy")
            labels = _read_array(archive, f"{split}_labels.npy").reshape(-1)
    except OSError as error:
        raise VolumeError(f"{path} cannot be read: {error.strerror or error}") from error
    except KeyError as error:
        raise VolumeError(f"{path} has no split {split!r}: {error.args[0]!s}") from error
    except (*HEADER_ERRORS, RuntimeError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise VolumeError(f"{path} is no sound archive of volumes: {error}") from error
    if images.ndim != 4 or images.dtype.kind not in "bu" or labels.dtype.kind not in "iu" or len(images) != len(labels):
        found = f"{images.dtype} {images.shape} and {labels.dtype} {labels.shape}"
        raise VolumeError(f"{path}: expected (N, D, H, W) unsigned integers and N integer labels, found {found}")
    if images.max() > 1:  # MedMNIST's greys run from 0 to 255; its shapes are 0 and 255
        shapes = ((images == 0) | (images == 255)).all()
        images = images == 255 if shapes else images / np.float16(255)
    names = [f"{path.stem}-{split}-{i:05d}" for i in range(len(images))]
    classes = [NORMAL if label == 0 else ABNORMAL for label in labels]
    return [Volume(name, name, label, image) for name, label, image in zip(names, classes, images, strict=True)]


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array of the archive. Raises ValueError where header and data disagree."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"{name} is of the unknown version {version}")
        shape, fortran, dtype = read(file)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or not 0 < size <= MAX_BYTES:
            raise ValueError(f"{name} states {dtype} of the shape {shape}, expected numbers of up to {MAX_BYTES} bytes")
        data = file.read(size + 1)  # grows with what is decompressed
    if len(data) != size:
        raise ValueError(f"{name} states {size} bytes and has {'more' if len(data) > size else len(data)}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
