"""The virtual `dataset.h5` over the shards of a run: large columns are mapped to the shards, small ones are copied."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...engine.errors import UsageError
from ...engine.inputs.sizes import Size
from ...engine.inputs.views import VIEWS
from ...engine.runtime.atomic import atomic_path
from ..base.header import Header
from .attributes import PREFIXES, ChannelMoments, write_header
from .by_size import MASK, depends_on_size, group_name, target_size
from .columns import ADDED_TEXT, WHOLE_MASK, columns, growing
from .deferred_errors import DeferredErrorFile
from .reading import open_file
from .shard_reader import ShardReader

ROWS = 256  # rows per chunk of a copied column
AT_ONCE = 4096  # rows of small columns written at once: writing shard by shard takes twice as long
BLOCK = 32  # latents at once, as in `read_records`: the sums equal those of a self-contained file bit by bit


def write_virtual(destination: Path, shards: Sequence[Path], header: Header) -> None:
    """Write the virtual dataset `destination` over these shards, in that order, by paths relative to it.

    All latents are read once, for the attributes, so that unreadable data is found here. If a shard is missing later,
    HDF5 returns NaN in columns of floats, and `load_optimized_dataset` raises. Raises `UsageError` if there is no
    shard, `DatasetError` for a damaged one.
    """
    if not shards:
        raise UsageError("nothing to write: the run has no finished picture")
    with atomic_path(destination) as temporary:
        guarded = DeferredErrorFile(temporary)
        try:
            with h5py.File(guarded, "w") as file:
                write_header(file, header)
                several = header.settings is not None and header.settings.size is None
                _write_columns(file, shards, destination.resolve().parent, header.vae, several)
        finally:
            guarded.close()
        guarded.check()
        with open_file(temporary) as written:
            ShardReader(temporary, written).check()


def _write_columns(file: h5py.File, shards: Sequence[Path], folder: Path, vae: dict[str, Any], several: bool) -> None:
    """Copy the small columns, map the large ones to the shards, and write the moments of the latents.

    vae: the autoencoder's identity. several: whether the shards have several sizes, see `by_size`.
    """
    large: dict[str, list[tuple[int, h5py.VirtualSource]]] = {}  # with the row of the column at which each begins
    sized: Counter[str] = Counter()  # number of samples by group, where there are several sizes
    pending: dict[str, list[np.ndarray]] = {}
    moments = ChannelMoments()
    total = written = 0
    for path in shards:
        with open_file(path) as shard:
            count = len(shard["image_name"])
            group, first = "", total
            if several:
                size = target_size(shard["optimized_latents"].shape, vae)
                group = f"{group_name(size)}/"
                first = sized[group]
                _add_sizes(file, pending, size, first, count)
                sized[group] += count
            place = Path(os.path.relpath(path.resolve(), folder)).as_posix()
            for column in columns(shard):
                name = column.name.lstrip("/")
                if _is_large(name):
                    source = h5py.VirtualSource(place, name, column.shape, column.dtype)
                    of_size = depends_on_size(name)
                    large.setdefault(group * of_size + name, []).append((first if of_size else total, source))
                else:
                    if name not in file:
                        growing(file, name, column.shape[1:], column.dtype, ROWS)
                    pending.setdefault(name, []).append(column[:])
            for name in (added for added in ADDED_TEXT if added not in shard):
                if name not in file:
                    growing(file, name, (), h5py.string_dtype("utf-8"), ROWS)
                pending.setdefault(name, []).append(np.full(count, b"", object))
            for name in PREFIXES:
                for start in range(0, count, BLOCK):
                    moments.add(name, shard[name][start : start + BLOCK])
            total += count
        if total - written >= AT_ONCE or path == shards[-1]:
            for name, parts in pending.items():
                copy = file[name]
                copy.resize(total, axis=0)
                copy[written:] = np.concatenate(parts)
            pending, written = {}, total
    for name, sources in large.items():
        group = next((group for group in sized if name.startswith(group)), "")
        _map(file, name, sources, sized[group] if group else total)
    moments.write(file)


def _is_large(name: str) -> bool:
    """Return whether a column stays in the shards."""
    return depends_on_size(name) or any(name == f"losses{view.suffix}" for view in VIEWS.values())


def _add_sizes(file: h5py.File, pending: dict[str, list[np.ndarray]], size: Size, first: int, count: int) -> None:
    """Add the sizes of `count` samples to the pending columns. first: the row of the first one in its group."""
    values = {
        "size": np.tile(np.array(size, np.int32), (count, 1)),
        "size_row": np.arange(first, first + count, dtype=np.int32),
    }
    for name, column in values.items():
        if name not in file:
            growing(file, name, column.shape[1:], column.dtype, ROWS)
        pending.setdefault(name, []).append(column)


def _map(file: h5py.File, name: str, sources: list[tuple[int, h5py.VirtualSource]], total: int) -> None:
    """Create one virtual column of `total` rows over these sources, each from its row on."""
    first = sources[0][1]
    layout = h5py.VirtualLayout((total, *first.shape[1:]), first.dtype)
    for start, source in sources:
        layout[start : start + source.shape[0]] = source
    if "/" in name:
        file.require_group(name.rpartition("/")[0])
    # NaN, so that missing data cannot be mistaken for data; pictures have no such value
    fill = np.nan if first.dtype.kind == "f" else WHOLE_MASK if name.rpartition("/")[2] == MASK else None
    file.create_virtual_dataset(name, layout, fillvalue=fill)
