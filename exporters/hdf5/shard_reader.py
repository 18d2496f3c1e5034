"""Reading of the large columns of a virtual `dataset.h5` from the shards themselves.

A missing or damaged shard is an error here, whereas HDF5's own mapping silently returns fill values.
"""

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from ...engine.errors import DatasetError
from ..files.open_files import allow_open_files
from .by_size import SizeTable, size_groups
from .columns import OpenColumns
from .reading import open_file

REMEDY = "copy the shards along with it, or make one file of all: relatent export OUT --to hdf5 --single-file"


class ShardReader:
    """Reader that opens shards when first needed and keeps them open; open files are not pickled."""

    def __init__(self, path: Path, file: h5py.File):
        """Read the mapping of `file`, the open virtual dataset at `path`.

        Raises `DatasetError` if a shard is missing, lies outside the folder of `path`, or does not fit the mapping.
        """
        self.path = path
        folder = path.resolve().parent
        parts = sorted(_mapped_shards(file))
        self.starts = [start for start, _, _ in parts]
        self.stops = [stop for _, stop, _ in parts]
        self.shards: list[Path] = []
        for _, _, name in parts:
            place = PurePosixPath(name)
            if place.is_absolute() or ".." in place.parts:
                raise DatasetError(f"{path} points to {name}, outside its folder: this is no dataset of ours")
            self.shards.append(folder / place)
        self._names: list[str] = list(file["image_name"].asstr()[:])
        self._open: dict[int, OpenColumns] = {}
        if [0, *self.stops] != [*self.starts, len(self._names)]:
            raise DatasetError(f"{path} is damaged: its shards do not add up to {len(self._names)} pictures")
        for shard in self.shards:
            if not shard.is_file():
                raise DatasetError(f"{path} needs {shard}, which is missing: {REMEDY}")
        self._most = 1

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def check(self) -> None:
        """Open every shard once. Raises `DatasetError` for one that is damaged or holds other pictures."""
        for number in range(len(self.shards)):
            self._open_shard(number).close()

    def row(self, name: str, index: int) -> np.ndarray:
        """Return sample `index` of a column.

        Raises `OSError` if its checksum fails, and `DatasetError` as `check` does.
        """
        number = bisect_right(self.starts, index) - 1
        columns = self._open.get(number)
        if columns is None:
            if not self._open:
                self._most = allow_open_files(len(self.shards))
            while len(self._open) >= self._most:
                self._open.pop(next(iter(self._open))).file.close()  # the shard that has been open longest
            columns = self._open[number] = OpenColumns(self._open_shard(number))
        return columns.row(name, index - self.starts[number])

    def _open_shard(self, number: int) -> h5py.File:
        """Open a shard and check that it holds the expected pictures."""
        shard = self.shards[number]
        try:
            file = open_file(shard)
        except DatasetError as error:
            raise DatasetError(f"{self.path} needs a shard that is broken: {error}; {REMEDY}") from error
        found = list(file["image_name"].asstr()[:])
        if found != self._names[self.starts[number] : self.stops[number]]:
            file.close()
            raise DatasetError(
                f"{self.path} is out of date: {shard} holds other pictures now; write it again: relatent export OUT --to hdf5"
            )
        return file


def is_virtual(file: h5py.File) -> bool:
    """Return whether the latents of a dataset lie in shards beside it."""
    return bool(file[f"{size_groups(file)[0]}optimized_latents"].is_virtual)


def _mapped_shards(file: h5py.File) -> Iterator[tuple[int, int, str]]:
    """Yield the shards of a virtual dataset: the first sample of each, the one after its last, and its path."""
    table = SizeTable(file)
    for group in size_groups(file):
        indices = table.indices(group) if group else None
        for part in file[f"{group}optimized_latents"].virtual_sources():
            (first, *_), (last, *_) = part.vspace.get_select_bounds()
            if indices is not None:
                first, last = int(indices[first]), int(indices[last])
            yield first, last + 1, part.file_name


def verify_links(place: Path) -> str | None:
    """Return what is wrong with the links of a virtual dataset to its shards.

    None if nothing is wrong, or if the dataset is not virtual.
    """
    try:
        with open_file(place) as file:
            if is_virtual(file):
                ShardReader(place, file).check()
    except DatasetError as error:
        return str(error).removeprefix(f"{place} ")
    return None
