"""The columns of an HDF5 file: creation, and lookup by name."""

from typing import Any

import h5py
import numpy as np

TEXT_COLUMNS = ("image_name", "split", "source_path", "source_sha256", "conversions", "caption")
ADDED_TEXT = frozenset(["caption"])  # columns that files of earlier versions lack, which read as ""
WHOLE_MASK = 255  # the value of every pixel where no mask is stored: all count


def growing(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any, rows_per_chunk: int, **options: Any
) -> h5py.Dataset:
    """Create an empty, resizable column of samples of that shape, with checksums if HDF5 supports them.

    options: of `h5py.Group.create_dataset`.
    """
    checksum = dtype != h5py.string_dtype("utf-8")  # HDF5 has no checksums for variable-length text
    return file.create_dataset(
        name,
        (0, *shape),
        dtype,
        maxshape=(None, *shape),
        chunks=(rows_per_chunk, *shape),
        fletcher32=checksum,
        **options,
    )


def columns(file: h5py.File) -> list[h5py.Dataset]:
    """Return all datasets of a file, including those in groups."""
    found: list[h5py.Dataset] = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found


class OpenColumns:
    """Cache of an open file's datasets by name: a lookup by name takes as long as reading a sample."""

    def __init__(self, file: h5py.File):
        self.file = file
        self._found: dict[str, h5py.Dataset] = {}

    def row(self, name: str, index: int) -> np.ndarray:
        """Return sample `index` of a column. Raises `OSError` if its checksum fails."""
        column = self._found.get(name)
        if column is None:
            column = self._found[name] = self.file[name]
        found: np.ndarray = column[index]
        return found
