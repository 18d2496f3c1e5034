"""`maps.h5` over the shards of a run: large columns are mapped to the shards, small ones copied."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from ....engine.errors import DatasetError
from ....engine.runtime.atomic import atomic_path
from ....exporters.hdf5.columns import columns
from ....exporters.hdf5.reading import open_file
from .header import SCHEMA, MapHeader
from .map_file import LARGE, deferred_file


def write_virtual(path: Path, shards: Sequence[Path]) -> None:
    """Write the virtual file `path` over these shards, one or more, in their order, by paths relative to it.

    Where a shard is missing later, HDF5 itself reads NaN, and no mask; `MapReader` raises. Raises `DatasetError` for a damaged
    shard.
    """
    folder = path.resolve().parent
    small: dict[str, list[np.ndarray]] = {}
    large: dict[str, list[h5py.VirtualSource]] = {}
    for shard in shards:
        try:
            with open_file(shard, SCHEMA) as file:
                header = MapHeader.read(file)
                place = Path(os.path.relpath(shard.resolve(), folder)).as_posix()
                for column in columns(file):
                    name = column.name.lstrip("/")
                    if name in LARGE:
                        source = h5py.VirtualSource(place, name, column.shape, column.dtype)
                        large.setdefault(name, []).append(source)
                    else:
                        small.setdefault(name, []).append(column[:])
        except OSError as error:
            raise DatasetError(f"{shard} is damaged: {error}") from error
    with atomic_path(path) as temporary, deferred_file(temporary) as file:
        header.write(file)
        for name, parts in small.items():
            values = np.concatenate(parts)
            text = values.dtype == object
            kind = h5py.string_dtype("utf-8") if text else values.dtype
            file.create_dataset(name, data=values, dtype=kind, chunks=values.shape, fletcher32=not text)
        for name, sources in large.items():
            layout = h5py.VirtualLayout((sum(s.shape[0] for s in sources), *sources[0].shape[1:]), sources[0].dtype)
            start = 0
            for source in sources:
                layout[start : start + source.shape[0]] = source
                start += source.shape[0]
            fill = np.nan if layout.dtype.kind == "f" else False  # NaN cannot be mistaken for data
            file.create_virtual_dataset(name, layout, fillvalue=fill)


def mapped_shards(path: Path, file: h5py.File) -> list[Path]:
    """The shards that the virtual file `path` maps, in order. Raises `DatasetError` for those outside its folder."""
    parts = []
    for part in file["error"].virtual_sources():
        place = PurePosixPath(part.file_name)
        if place.is_absolute() or ".." in place.parts:
            raise DatasetError(f"{path} points to {place}, outside its folder: this is no file of ours")
        parts.append((part.vspace.get_select_bounds()[0][0], path.resolve().parent / place))
    return [shard for _, shard in sorted(parts)]
