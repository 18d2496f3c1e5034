"""The subcommand anomaly prepare."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..exit_status import DONE, SOME_FAILED
from ..options import add_command
from ..text import print_result
from .packages import needs_packages

if TYPE_CHECKING:
    from ...systems.anomaly.data.scan_list import Scan


def add_commands(commands: Any) -> None:
    """Declare prepare."""
    prepare = add_command(
        commands, "prepare", _prepare, "CT scans with masks of vertebrae to volumes; goes on where it was stopped"
    )
    prepare.add_argument(
        "source",
        metavar="SCAN|LIST",
        help="a scan, NIfTI; or a table .csv or .json with scan, mask, patient, and perhaps labels and label",
    )
    prepare.add_argument(
        "folder", metavar="OUT", type=Path, help="folder of the volumes; those of several calls share it"
    )
    prepare.add_argument("--mask", metavar="MASK", help="the scan's mask, NIfTI")
    prepare.add_argument("--patient", metavar="ID", help="the scan's patient")
    prepare.add_argument(
        "--labels",
        default="totalsegmentator",
        metavar="totalsegmentator|verse|FILE.json",
        help='the numbers of the mask; a file is such as {"1": "T12"} (default: totalsegmentator, version 2)',
    )
    prepare.add_argument("--side", type=int, default=128, metavar="N", help="voxels (default: 128)")
    prepare.add_argument("--spacing", type=float, default=1.0, metavar="MM", help="of a voxel (default: 1.0)")
    prepare.add_argument(
        "--window",
        type=float,
        nargs=2,
        default=(0.0, 1900.0),
        metavar=("LOW", "HIGH"),
        help="Hounsfield units that become 0 and 1 (default: 0 1900)",
    )
    prepare.add_argument(
        "--replace", action="store_true", help="prepare patients again who are there from another scan"
    )
    prepare.add_argument(
        "--folds", type=int, metavar="N", help="also draw N folds of all patients in OUT: OUT/folds.json"
    )
    prepare.add_argument("--held-out", type=int, default=0, metavar="N", help="patients in no fold (default: 0)")
    prepare.add_argument("--seed", type=int, default=42, metavar="N", help="of the folds (default: 42)")


def _prepare(options: argparse.Namespace) -> int:
    """Run `relatent anomaly prepare`, and return its exit status."""
    from ...systems.anomaly.data.preparation import Field
    from ...systems.anomaly.data.preparation_batch import FAILED, prepare_scans

    field = Field(options.side, options.spacing, tuple(options.window))
    scans = _scans(options)
    with needs_packages():  # of NIfTI files and of resampling, imported where they are used
        prepared = [asdict(one) for one in prepare_scans(scans, options.folder, field, options.replace)]
    result: dict[str, Any] = {"folder": str(options.folder), "field": asdict(field), "scans": prepared}
    failed = any(one["status"] == FAILED for one in prepared)
    if options.folds is not None:
        result["folds"] = _folds(options)
        failed = failed or "failed" in result["folds"]
    print_result(result, _lines(result), options.json)
    return SOME_FAILED if failed else DONE


def _scans(options: argparse.Namespace) -> "list[Scan]":
    """What is to be prepared: one scan, or the rows of a table."""
    from ...engine.errors import UsageError
    from ...systems.anomaly.data.scan_list import SUFFIXES, Scan, read_scans

    source, of_scan = Path(options.source), [options.mask, options.patient]
    if source.suffix in SUFFIXES:
        if any(of_scan):
            raise UsageError("--mask and --patient are of a scan; in a table they are the columns mask and patient")
        return read_scans(source, options.labels)
    if not all(of_scan):
        raise UsageError("a scan needs --mask and --patient; a table of scans ends in .csv or .json")
    return [Scan(options.source, options.mask, options.patient, options.labels)]


def _folds(options: argparse.Namespace) -> dict[str, Any]:
    """Write folds.json; its content, or under `failed` why there are none: the volumes are there all the same."""
    from ...engine.errors import RelatentError
    from ...systems.anomaly.data.preparation_batch import write_volume_folds

    try:
        return asdict(write_volume_folds(options.folder, options.seed, options.folds, options.held_out))
    except RelatentError as error:
        return {"failed": str(error)}


def _lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each scan, then one for the folds."""
    for one in result["scans"]:
        if one["reason"] is not None:
            yield f"failed: {one['patient']}: {one['reason']}"
        else:
            yield f"{one['status']}: {one['patient']}: {', '.join(one['volumes'])}"
    if folds := result.get("folds"):
        sizes = " + ".join(str(len(fold)) for fold in folds.get("folds", ()))
        yield (
            f"failed: folds: {folds['failed']}"
            if "failed" in folds
            else f"folds of {sizes}, {len(folds['held_out'])} held out"
        )
