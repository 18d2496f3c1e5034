"""Verification of a shard, to its last byte, against the ledger and the plan."""

from collections.abc import Iterator

import h5py
import numpy as np

from ...engine.errors import DatasetError
from ...engine.inputs.views import VIEWS, run_views
from ...engine.records import IMAGES, METRICS
from ...engine.runtime.atomic import file_sha256
from ...exporters.hdf5.columns import ADDED_TEXT, TEXT_COLUMNS, columns
from ...exporters.hdf5.reading import open_file
from ..state.ledger import Shard
from ..state.run_folder import RunFolder

OUTCOME = (
    "initial_latents", "optimized_latents", "losses", "iterations", "convergence_iteration", "stop_reason",
)  # fmt: skip
BLOCK = 16 * 2**20  # bytes of a column read at once


def shard_fault(folder: RunFolder, shard: Shard) -> str | None:
    """Return what is wrong with a shard; None if nothing is. The whole file is read, in bounded memory."""
    planned = [row.source.name for row in folder.plan.rows(shard.number)]
    failed = {failure.name for failure in shard.failures}
    if shard.images + len(failed) > len(planned) or (shard.whole and shard.images + len(failed) < len(planned)):
        return f"{shard.images} pictures and {len(failed)} failures in the ledger, {len(planned)} pictures in the plan"
    if shard.file is None:
        return None
    path = folder.shard_path(shard.number)
    if not path.is_file():
        return "is no file" if path.exists() else "is missing"
    size = path.stat().st_size
    changed = size != shard.bytes or file_sha256(path) != shard.sha256
    if changed and shard.whole:
        found = f"holds {size} bytes, {shard.bytes} in the ledger" if size != shard.bytes else "its bytes have changed"
        return f"{found} (SHA-256 differs)"
    try:
        with open_file(path) as file:
            names = list(file["image_name"].asstr()[:])
            # if the process was killed right after it completed an interrupted shard, the file is ahead of the ledger
            if changed and len(names) == shard.images:
                return "its bytes have changed (SHA-256 differs)"
            return _content_fault(folder, shard, file, names, planned, ahead=changed)
    except DatasetError as error:
        return str(error).removeprefix(f"{path} ")
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        return f"cannot be read: {str(error).splitlines()[0]}"


def _content_fault(
    folder: RunFolder, shard: Shard, file: h5py.File, names: list[str], planned: list[str], ahead: bool
) -> str | None:
    """Return what is wrong with the contents of an open shard; None if nothing is.

    planned: names of the pictures in the plan. ahead: the file may hold more pictures than the ledger states.
    """
    if len(names) != shard.images and not ahead:
        return f"holds {len(names)} pictures, {shard.images} in the ledger"
    failed = {failure.name for failure in shard.failures}
    wanted = [name for name in planned if name not in failed] if shard.whole else planned
    expected = wanted if shard.whole else [name for name in wanted if name in set(names)]
    if names != expected:
        return f"holds {_some(names)} where the plan has {_some(expected)}"
    absent = [name for name in _wanted_columns(folder) if name not in file]
    if absent:
        return f"lacks the columns {', '.join(absent)}"
    for column in columns(file):
        if len(column) != len(names):
            return f"{column.name}: {len(column)} rows, expected {len(names)}"
        finite = "latents" in column.name or "metrics" in column.name
        for start, values in _blocks(column):
            if finite and not np.isfinite(values).all():
                bad = ~np.isfinite(values.reshape(len(values), -1)).all(1)
                return f"{column.name}: NaN or infinity in {names[start + int(bad.argmax())]}"
    return None


def _wanted_columns(folder: RunFolder) -> Iterator[str]:
    """Yield the names of the columns that a shard of this run must have."""
    settings = folder.record.settings
    yield from (*(name for name in TEXT_COLUMNS if name not in ADDED_TEXT), "original_size")
    for suffix in (VIEWS[name].suffix for name in run_views(settings.flip)):
        yield from (f"{name}{suffix}" for name in OUTCOME)
        yield from (f"metrics{suffix}/{name}" for name in METRICS)
    if settings.keep_images:
        yield from (f"images/{name}" for name in IMAGES)


def _blocks(column: h5py.Dataset) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the start row and the values of each block of a column; each read verifies the checksums of its chunks."""
    rows = max(1, BLOCK // max(1, column.dtype.itemsize * int(np.prod(column.shape[1:]))))
    for start in range(0, len(column), rows):
        yield start, column[start : start + rows]


def _some(names: list[str]) -> str:
    """Describe a list of names for an error message."""
    return f"{len(names)} pictures from {names[0]!r} on" if names else "no picture"
