"""Reading of records from an HDF5 file, a shard or `dataset.h5`."""

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import h5py

from ...engine.errors import DatasetError, first_line
from ...engine.records import METRICS, Outcome, Record
from ..base.exporter import SCHEMA
from ..base.stored_views import stored_views
from .by_size import depends_on_size, picture_names, read_masks, read_samples
from .columns import ADDED_TEXT, TEXT_COLUMNS

LOCK_ERROR = re.compile(r"unable to lock file, errno = (\d+)")
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


def open_file(path: Path, schema: str = SCHEMA) -> h5py.File:
    """Open a dataset of this schema for reading. Raises `DatasetError` for any other file."""
    try:
        file = _open(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be opened as HDF5: {error}") from error
    try:
        found = file.attrs.get("schema")
    except OSError as error:
        file.close()
        raise DatasetError(f"{path} is damaged: {error}") from error
    if not isinstance(found, str) or found != schema:
        file.close()
        raise DatasetError(f"{path} is no dataset of schema {schema}: found {found!r}")
    return file


def _open(path: Path) -> h5py.File:
    """Open a file for reading, without HDF5's own lock where the file system has none.

    Files under their final names are never written to, so that reading them needs no lock.
    """
    try:
        return h5py.File(path, "r")
    except OSError as error:
        found = LOCK_ERROR.search(str(error))
        if found is None or int(found[1]) not in NO_LOCKS:
            raise
        return h5py.File(path, "r", locking=False)


def read_records(path: Path, batch_size: int = 32) -> Iterator[list[Record]]:
    """Yield all records of a file, in batches. Raises `DatasetError` if a checksum fails, or a column is missing."""
    with open_file(path) as file:
        if "image_name" not in file:
            raise DatasetError(f"{path} is damaged: it lacks the column image_name")
        for start in range(0, len(file["image_name"]), batch_size):
            try:
                yield read_rows(file, slice(start, start + batch_size))
            except (OSError, KeyError) as error:
                raise DatasetError(f"{path} is damaged: {first_line(error)}") from error


def read_rows(file: h5py.File, rows: slice) -> list[Record]:
    """Return the records of some rows of an open file. Raises `OSError` if a checksum fails."""
    sizes, outcomes = file["original_size"][rows], _read_outcomes(file, rows)
    empty = [""] * len(outcomes)
    text = {
        name: empty if name in ADDED_TEXT and name not in file else file[name].asstr()[rows] for name in TEXT_COLUMNS
    }
    masks = read_masks(file, rows)
    others = {view.name: _read_outcomes(file, rows, view.suffix) for view in stored_views(file, "stop_reason")[1:]}
    images = {name: read_samples(file, f"images/{name}", rows) for name in picture_names(file)}
    return [
        Record(
            **vars(outcomes[i]),
            name=text["image_name"][i],
            split=text["split"][i],
            source_path=text["source_path"][i],
            source_sha256=text["source_sha256"][i],
            original_size=(int(sizes[i, 0]), int(sizes[i, 1])),
            conversions=tuple(text["conversions"][i].split("; ")) if text["conversions"][i] else (),
            images={name: values[i] for name, values in images.items()},
            views={name: found[i] for name, found in others.items()},
            caption=text["caption"][i],
            mask=masks[i],
        )
        for i in range(len(outcomes))
    ]


def _read_outcomes(file: h5py.File, rows: slice, suffix: str = "") -> list[Outcome]:
    """Return the outcomes of one view, whose columns end in `suffix`."""
    initial, optimized, losses, counts, stops = (
        read_samples(file, f"{name}{suffix}", rows) if depends_on_size(name) else file[f"{name}{suffix}"][rows]
        for name in ("initial_latents", "optimized_latents", "losses", "iterations", "convergence_iteration")
    )
    reasons = file[f"stop_reason{suffix}"].asstr()[rows]
    metrics = {name: file[f"metrics{suffix}/{name}"][rows] for name in METRICS}  # in METRICS' order, not the file's
    return [
        Outcome(
            initial_latents=initial[i],
            optimized_latents=optimized[i],
            losses=[float(value) for value in losses[i, : counts[i]]],
            convergence_iteration=int(stops[i]) if stops[i] >= 0 else None,
            stop_reason=reasons[i],
            metrics={name: float(values[i]) for name, values in metrics.items()},
        )
        for i in range(len(counts))
    ]
