"""Reading of `.pt` datasets: nothing that is not plain, damaged or incomplete comes through."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from ...engine.autoencoders.files.weights import load_plain
from ...engine.errors import DatasetError, first_line
from ..base.exporter import SCHEMA
from ..base.stored_views import stored_views
from ..hdf5.check_columns import REMEDY


def read_pt(path: Path) -> dict[str, Any]:
    """Return the content of a `.pt` dataset.

    The file is read twice, since torch does not look at the checksums that it stores. Raises `DatasetError` for a file that
    is damaged, foreign, or of columns that do not belong together; no foreign code is run.
    """
    _check_checksums(path)
    try:
        content = load_plain(path)
    except ValueError as error:
        raise DatasetError(f"{path} is damaged or no dataset of plain tensors: {error}; {REMEDY}") from error
    metadata = content.get("metadata") if isinstance(content, dict) else None
    found = metadata.get("schema") if isinstance(metadata, dict) else None
    if found != SCHEMA:
        raise DatasetError(f"{path} is no dataset of schema {SCHEMA}: found {found!r}")
    _check_columns(path, content)
    return dict(content)


def _check_checksums(path: Path) -> None:
    """Raise `DatasetError` where a member of the zip file that torch has written is not what was written.

    A file without any checksums is let through: torch writes such ones after `torch.serialization.set_crc32_options(False)`,
    and before version 1.6 it wrote no zip files.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as file:
            if any(member.compress_type != zipfile.ZIP_STORED for member in file.infolist()):
                raise zipfile.BadZipFile("it is compressed, which torch.save does not do")
            damaged = file.testzip() if any(member.CRC for member in file.infolist()) else None
    except Exception as error:  # zipfile raises whatever a damaged directory of members leads it to
        raise DatasetError(
            f"{path} is damaged or no dataset of plain tensors: {first_line(error)}; {REMEDY}"
        ) from error
    if damaged is not None:
        raise DatasetError(f"{path} is damaged at {damaged}; {REMEDY}")


def _check_columns(path: Path, content: dict[str, Any]) -> None:
    """Raise `DatasetError` unless each column has a sample for each name, of the kind that it should hold."""
    names = content.get("image_name")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        found = "other things in it" if isinstance(names, list) else _kind(names)
        raise DatasetError(f"{path}: expected a list of names as image_name, found {found}; {REMEDY}")
    if "original_images" in content:
        _check_column(path, "original_images", content["original_images"], len(names), 3)
    for suffix in {"": None} | {view.suffix: None for view in stored_views(content)}:
        for name in (f"initial_latents{suffix}", f"optimized_latents{suffix}"):
            _check_column(path, name, content.get(name), len(names), 2)
        metrics = content.get(f"metrics{suffix}")
        if not isinstance(metrics, dict):
            raise DatasetError(f"{path}: expected metrics by name as metrics{suffix}, found {_kind(metrics)}; {REMEDY}")
        for name, values in metrics.items():
            _check_column(path, f"metrics{suffix}/{name}", values, len(names), 0)


def _check_column(path: Path, name: str, column: Any, count: int, least: int) -> None:
    """Raise `DatasetError` unless a column holds `count` samples, which are tensors of at least `least` axes.

    Pictures are uint8, all other columns of a floating type.
    """
    whole = isinstance(column, torch.Tensor) and column.ndim > 0
    parts = isinstance(column, list) and all(isinstance(part, torch.Tensor) for part in column)
    if not (whole or parts) or len(column) != count:
        found = f"{len(column)} samples" if whole or parts else _kind(column)
        raise DatasetError(f"{path}: expected tensors of {count} samples as {name}, found {found}; {REMEDY}")
    for sample in column[:1] if whole else column:
        fits = sample.dtype == torch.uint8 if name == "original_images" else sample.is_floating_point()
        if not fits or sample.ndim < least:
            kind = "uint8" if name == "original_images" else "a floating type"
            raise DatasetError(
                f"{path}: expected samples of {least} axes or more and of {kind} as {name}, found one of shape "
                f"{tuple(sample.shape)} and {str(sample.dtype).removeprefix('torch.')}; {REMEDY}"
            )


def _kind(value: Any) -> str:
    """Return what was found in the place of a column."""
    return "nothing" if value is None else f"a {type(value).__name__}"
