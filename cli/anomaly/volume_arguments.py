"""The arguments that say which volumes a command takes."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ...engine.errors import UsageError

if TYPE_CHECKING:
    from ...systems.anomaly.data.volume import Volume

SPLITS = ("train", "val", "test")


def volume_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare VOLUMES, --split and --limit."""
    parser.add_argument(
        "volumes", metavar="VOLUMES", type=Path, help="a folder of files vol_PATIENT_LEVEL.npy, or an archive .npz"
    )
    parser.add_argument("--split", choices=SPLITS, help="of an archive .npz")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N volumes, by name, only")


def is_archive(options: argparse.Namespace) -> bool:
    """Return whether VOLUMES is an archive."""
    path: Path = options.volumes
    return path.suffix == ".npz" and not path.is_dir()


def read_volumes(options: argparse.Namespace) -> "tuple[list[Volume], list[str], bool | None]":
    """Return the volumes, a line for each file that is none, and whether they are synthetic, None where that is not known.

    The lines are printed on stderr too. Raises `UsageError` and `VolumeError` for what cannot be read.
    """
    from ...systems.anomaly.data.volume_archive import read_archive
    from ...systems.anomaly.data.volume_folder import read_folder, read_index

    if options.limit is not None and options.limit < 1:
        raise UsageError(f"--limit is {options.limit}; give a whole number from 1 on")
    if is_archive(options):
        if options.split is None:
            raise UsageError(f"{options.volumes} is an archive: give --split {', '.join(SPLITS[:-1])} or {SPLITS[-1]}")
        return read_archive(options.volumes, options.split)[: options.limit], [], None
    if options.split is not None:
        raise UsageError(f"--split is for archives .npz, and {options.volumes} is none")
    index = read_index(options.volumes)
    volumes, lines = read_folder(options.volumes)
    for line in lines:
        print(f"relatent: {line}", file=sys.stderr)
    synthetic = index.get("synthetic") if index["volumes"] else None
    return volumes[: options.limit], lines, synthetic if isinstance(synthetic, bool) else None
