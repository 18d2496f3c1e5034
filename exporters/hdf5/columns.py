"""The columns of an HDF5 file: their creation, and their lookup by name."""

from typing import Any

import h5py
import numpy as np

TEXT_COLUMNS = ("image_name", "split", "source_path", "source_sha256", "conversions")


def growing(file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any, rows_per_chunk: int) -> h5py.Dataset:
    """An empty column of samples of that shape, with checksums where HDF5 has them."""
    checksum = dtype != h5py.string_dtype("utf-8")  # HDF5 has no checksums for variable-length text
    return file.create_dataset(
        name,
        (0, *shape),
        dtype,
        maxshape=(None, *shape),
        chunks=(rows_per_chunk, *shape),
        fletcher32=checksum,
    )


def columns(file: h5py.File) -> list[h5py.Dataset]:
    """All of a file, in groups too."""
    found: list[h5py.Dataset] = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found


class OpenColumns:
    """An open file's datasets by name, kept: to look one up by name takes as long as to read a sample of it."""

    def __init__(self, file: h5py.File):
        self.file = file
        self._found: dict[str, h5py.Dataset] = {}

    def row(self, name: str, index: int) -> np.ndarray:
        """Raises `OSError` where its checksum fails."""
        column = self._found.get(name)
        if column is None:
            column = self._found[name] = self.file[name]
        found: np.ndarray = column[index]
        return found
