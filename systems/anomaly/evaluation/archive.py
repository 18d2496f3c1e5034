"""The evaluation of a split of an archive, whose maps are made for it."""

import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ....engine.errors import UsageError
from ..bundled import ADRENAL, find_checkpoint
from ..data.volume import Volume
from ..data.volume_archive import read_archive
from ..maps.error_mapper import ErrorMapper
from ..maps.run import OnProgress, write_maps
from ..maps.side import choose_side
from ..model.checkpoint import read_checkpoint
from .calibration import Calibration, stored_thresholds
from .run import evaluate_maps

VALIDATION, TEST = "val", "test"
STORED = "calibration"  # a checkpoint's key: {score: threshold}


def evaluate_archive(
    data: str | Path,
    split: str,
    model: str | Path = ADRENAL,
    calibrate_on: str | None = None,
    out: str | Path | None = None,
    limit: int | None = None,
    score: str | None = None,
    sigma: float = 0.0,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Make the maps of a split of a MedMNIST archive, and return what `evaluate_maps` says of them.

    model: a checkpoint, or the name of a bundled model. calibrate_on: the split for the thresholds; `val`, if not given and there. Without one
    the thresholds stored in the checkpoint serve for `test`; for other splits none do, for they may have been calibrated on these.
    out: the folder of the maps, `{out}/{split}`, where finished ones are not made again; a temporary one, if not given. limit: at
    most so many volumes of each split, evenly spread. on_progress: as `write_maps` takes it, for each split. Raises `UsageError`, and `VolumeError` for the archive.
    """
    if split == calibrate_on:
        raise UsageError(
            f"--calibrate-on is {split!r} as --split is: thresholds must not come from what they are tried on"
        )
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}; give a number of volumes from 1 on")
    checkpoint = find_checkpoint(model)
    volumes = {split: _spread(read_archive(data, split), limit)}
    validation = calibrate_on or (VALIDATION if split != VALIDATION and _has_split(data, VALIDATION) else None)
    if validation:
        volumes[validation] = _spread(read_archive(data, validation), limit)
    with ExitStack() as stack:
        folder = Path(out or stack.enter_context(tempfile.TemporaryDirectory()))
        mapper = ErrorMapper(checkpoint, choose_side(checkpoint, volumes[split]))
        failed = 0
        for name, some in volumes.items():
            failed += write_maps(folder / name, some, mapper, on_progress=on_progress)["counts"]["failed"]
        without = None if validation else _stored(checkpoint, split)
        result = evaluate_maps(folder / split, folder / validation if validation else None, score, sigma, without)
    where = (
        f"the {len(volumes[validation])} volumes of the split {validation!r}" if validation else result["calibration"]
    )
    about = {"data": Path(data).name, "split": split, "model": str(model), "calibration": where, "failed": failed}
    if failed:
        result["notes"].append(f"{failed} volumes have no map and are in no figure; run.json says why")
    return result | about


def _has_split(data: str | Path, split: str) -> bool:
    with zipfile.ZipFile(data) as archive:
        return f"{split}_images.npy" in archive.namelist()


def _stored(checkpoint: Path, split: str) -> Calibration:
    if split != TEST:
        return Calibration(f"thresholds stored with a model serve for {TEST!r} alone; name a split by --calibrate-on")
    values = read_checkpoint(checkpoint).get(STORED)
    if values is None:
        return Calibration(f"the archive has no split {VALIDATION!r}, and no threshold is stored with the model")
    return stored_thresholds(values, f"stored in {checkpoint.name}")


def _spread(volumes: list[Volume], limit: int | None) -> list[Volume]:
    """At most `limit` volumes, evenly spread."""
    if limit is None or limit >= len(volumes):
        return volumes
    return [volumes[int(i)] for i in np.linspace(0, len(volumes) - 1, limit).round()]
