"""Whether an HDF5 dataset has the columns that its reader needs, with a row for each sample."""

from pathlib import Path
from typing import Any

import h5py

from ...engine.errors import DatasetError
from ..base.stored_views import stored_views
from .by_size import LATENTS, SizeTable, has_sizes, picture_names, size_groups

REMEDY = "export it again, or `relatent verify OUT --repair`"


def check_columns(path: Path, file: h5py.File) -> None:
    """Raise `DatasetError` unless the open file at `path` has all columns of samples, of one length and of their kind."""
    count = _check(path, file, "image_name", None, "O", 1)
    if has_sizes(file):
        for name, axes in (("size", 2), ("size_row", 1)):
            _check(path, file, name, count, "iu", axes)
    table = SizeTable(file)
    suffixes = [view.suffix for view in stored_views(file, "stop_reason")]
    for suffix in {"": None} | dict.fromkeys(suffixes):
        _check(path, file, f"stop_reason{suffix}", count, "O", 1)
        if not isinstance(file.get(f"metrics{suffix}"), h5py.Group):
            raise DatasetError(f"{path}: expected a group of metrics as metrics{suffix}, found none; {REMEDY}")
        for name in file[f"metrics{suffix}"]:
            _check(path, file, f"metrics{suffix}/{name}", count, "f", 1)
    for group in size_groups(file):
        rows = len(table.indices(group)) if group else count
        for name in (f"{name}{suffix}" for name in LATENTS for suffix in suffixes):
            _check(path, file, f"{group}{name}", rows, "f", 3)
        for name in picture_names(file):
            _check(path, file, f"{group}images/{name}", rows, "u", 4)


def _check(path: Path, file: h5py.File, name: str, count: int | None, kinds: str, axes: int) -> int:
    """Raise `DatasetError` unless a column is there, with `count` rows; return their number.

    count: None for any. kinds: those of numpy's types. axes: the least number of them.
    """
    column = _find(file, name)
    expected = "a row for each sample" if count is None else f"{count} rows"
    if not isinstance(column, h5py.Dataset):
        raise DatasetError(f"{path}: expected {expected} as {name}, found nothing; {REMEDY}")
    length = len(column) if column.ndim else 0
    if count not in (None, length) or column.dtype.kind not in kinds or column.ndim < axes:
        raise DatasetError(
            f"{path}: expected {expected} as {name}, found shape {column.shape} and {column.dtype}; {REMEDY}"
        )
    return length


def _find(file: h5py.File, name: str) -> Any:
    """Return a column or a group by its name; None where it is absent, or a link that leads nowhere."""
    try:
        return file.get(name)
    except (KeyError, OSError):
        return None
