"""Reading of `.pt` datasets: nothing that is not plain, damaged or incomplete comes through."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from ...engine.errors import DatasetError, first_line
from ..base.exporter import SCHEMA
from ..base.stored_views import stored_views


def read_pt(path: Path) -> dict[str, Any]:
    """Return the content of a `.pt` dataset.

    The file is read twice, since torch does not look at the checksums that it stores. Raises `DatasetError` for a file that
    is damaged, foreign, or of columns that do not belong together; no foreign code is run.
    """
    _check_checksums(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each raise their own
        raise DatasetError(f"{path} is damaged or no dataset of plain tensors") from error
    metadata = content.get("metadata") if isinstance(content, dict) else None
    found = metadata.get("schema") if isinstance(metadata, dict) else None
    if found != SCHEMA:
        raise DatasetError(f"{path} is no dataset of schema {SCHEMA}: found {found!r}")
    _check_columns(path, content)
    return dict(content)


def _check_checksums(path: Path) -> None:
    """Raise `DatasetError` where a member of the zip file that torch has written is not what was written."""
    try:
        with zipfile.ZipFile(path) as file:
            if any(member.compress_type != zipfile.ZIP_STORED for member in file.infolist()):
                raise zipfile.BadZipFile("it is compressed, which torch.save does not do")
            damaged = file.testzip()
    except Exception as error:  # of zipfile, or of the system, by what is damaged
        raise DatasetError(f"{path} is damaged or no dataset of plain tensors: {first_line(error)}") from error
    if damaged is not None:
        raise DatasetError(f"{path} is damaged at {damaged}; export it again, or `relatent verify OUT --repair`")


def _check_columns(path: Path, content: dict[str, Any]) -> None:
    """Raise `DatasetError` unless each column has a sample for each name."""
    names = content.get("image_name")
    if not isinstance(names, list):
        raise DatasetError(f"{path}: expected a list of names as image_name, found {type(names).__name__}")
    columns = {name: content[name] for name in ("original_images",) if name in content}
    for suffix in {"", *(view.suffix for view in stored_views(content))}:
        columns |= {name: content.get(name) for name in (f"initial_latents{suffix}", f"optimized_latents{suffix}")}
        metrics = content.get(f"metrics{suffix}")
        if not isinstance(metrics, dict):
            raise DatasetError(f"{path}: expected metrics by name as metrics{suffix}, found {type(metrics).__name__}")
        columns |= {f"metrics{suffix}/{name}": values for name, values in metrics.items()}
    for name, column in columns.items():
        whole = isinstance(column, torch.Tensor) and column.ndim > 0
        parts = isinstance(column, list) and all(isinstance(part, torch.Tensor) for part in column)
        if not (whole or parts) or len(column) != len(names):
            what = f"{len(column)} samples" if whole or parts else type(column).__name__
            raise DatasetError(f"{path}: expected tensors of {len(names)} samples as {name}, found {what}")
