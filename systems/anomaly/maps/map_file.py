"""The writer of an HDF5 file of maps, a shard of a run or a file of its own (docs/anomaly_maps.md)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ....engine.errors import DatasetError
from ....engine.runtime.atomic import atomic_path
from ....exporters.hdf5.columns import growing
from ....exporters.hdf5.deferred_errors import DeferredErrorFile
from ....exporters.hdf5.reading import open_file
from .header import SCHEMA, MapHeader
from .map_row import MapRow

TEXT = ("volume_name", "patient", "source", "source_sha256")
LARGE = {"error": np.float32, "volume": np.float16, "reconstruction": np.float16, "mask": np.bool_}  # (N, D, H, W)
PACKING = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
ROWS = 256  # per chunk of a small column


@contextmanager
def map_file(path: Path, header: MapHeader) -> Iterator["MapWriter"]:
    """A writer of the file `path`, which appears there once it is complete, read again and on the disk."""
    with atomic_path(path) as temporary:
        with deferred_file(temporary) as file:
            writer = MapWriter(file, header)
            yield writer
        with open_file(temporary, SCHEMA) as written:
            if any(len(written[name]) != writer.count for name in ("volume_name", "error")):
                raise DatasetError(f"{path} was not written whole: it lacks rows; is the disk sound?")


@contextmanager
def deferred_file(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file, closed and complete when the block ends. Raises `OSError` where the disk is full."""
    guarded = DeferredErrorFile(path)
    try:
        with h5py.File(guarded, "w") as file:
            yield file
    finally:
        guarded.close()
    guarded.check()


class MapWriter:
    """Writer of rows to an open file. All have volumes of one shape and the same names of scores."""

    def __init__(self, file: h5py.File, header: MapHeader) -> None:
        self.file, self.header, self.count = file, header, 0
        self._columns: dict[str, h5py.Dataset] = {}

    def add(self, row: MapRow) -> None:
        """Append a row."""
        values = self._values(row)
        if not self._columns:
            self._create(values)
        if self._columns.keys() != values.keys():
            raise ValueError(f"{row.name} has other columns than the rows before it")
        for name, value in values.items():
            column = self._columns[name]
            column.resize(self.count + 1, axis=0)
            column[self.count] = value
        self.count += 1

    def _values(self, row: MapRow) -> dict[str, Any]:
        values: dict[str, Any] = {
            "volume_name": row.name,
            "patient": row.patient,
            "source": row.source,
            "source_sha256": row.source_sha256,
            "label": np.int8(row.label),
            **{f"scores/{name}": np.float64(score) for name, score in row.scores.items()},
            "error": np.asarray(row.error, np.float32),
        }
        if self.header.keep_volumes:
            values |= {name: np.asarray(getattr(row, name), np.float16) for name in ("volume", "reconstruction")}
        if self.header.masks:
            values["has_mask"] = np.bool_(row.mask is not None)
            values["mask"] = np.zeros(row.error.shape, bool) if row.mask is None else row.mask.astype(bool)
        return values

    def _create(self, first: dict[str, Any]) -> None:
        self.header.write(self.file)
        for name, value in first.items():
            if name in LARGE:
                self._columns[name] = growing(self.file, name, value.shape, LARGE[name], 1, **PACKING)
            else:
                kind = h5py.string_dtype("utf-8") if name in TEXT else value.dtype
                self._columns[name] = growing(self.file, name, (), kind, ROWS)
