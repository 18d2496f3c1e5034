"""What the subcommands that make maps share: their options, the run, and the lines at its end."""

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...systems.anomaly.bundled import ADRENAL, VERTEBRAE, find_checkpoint  # does not import torch
from ..exit_status import DONE, SOME_FAILED
from ..options import device_option
from ..text import print_result
from .progress import volumes_shown
from .volume_arguments import is_archive, read_volumes, volume_arguments

if TYPE_CHECKING:
    from ...systems.anomaly.data.volume import Volume
    from ...systems.anomaly.maps.mapper import Mapper


def map_options(parser: argparse.ArgumentParser) -> None:
    """Declare VOLUMES, OUT, the model, and what is written."""
    volume_arguments(parser)
    parser.add_argument(
        "folder", metavar="OUT", type=Path, help="the folder of the run; an unfinished one there goes on"
    )
    parser.add_argument(
        "--model",
        metavar="NAME|PATH",
        help=f"a bundled model, {VERTEBRAE} or {ADRENAL}, or a checkpoint of anomaly train (default: {VERTEBRAE}, for an "
        f"archive {ADRENAL})",
    )
    parser.add_argument(
        "--side", type=int, metavar="N", help="voxels a side; volumes are cropped or padded (default: as in training)"
    )
    parser.add_argument("--to", default="hdf5", metavar="FORMATS", help="hdf5 and npy, with commas (default: hdf5)")
    parser.add_argument(
        "--single-file", action="store_true", help="maps.h5 with all data in it, not one that refers to the shards"
    )
    parser.add_argument("--only-maps", action="store_true", help="store no volumes and reconstructions beside the maps")
    parser.add_argument("--batch-size", type=int, default=4, metavar="N", help="volumes at once (default: 4)")
    parser.add_argument(
        "--shard-size", type=int, default=16, metavar="N", help="volumes in a file of the run (default: 16)"
    )
    device_option(parser)


def chosen_checkpoint(options: argparse.Namespace) -> Path:
    """Return the checkpoint of --model, or of the bundled model that VOLUMES suggests. Raises `UsageError`."""
    return find_checkpoint(options.model or (ADRENAL if is_archive(options) else VERTEBRAE))


def run_maps(
    options: argparse.Namespace,
    checkpoint: Path,
    make: "Callable[[list[Volume], int], Mapper]",
    about: Mapping[str, Any] | None = None,
) -> int:
    """Make the maps that the options ask for, print what came of it, and return the exit status.

    make: the mapper for these volumes and this side. about: what else the result states, looked at when the maps are made.
    """
    from ...systems.anomaly.maps.run import write_maps
    from ...systems.anomaly.maps.side import choose_side

    volumes, refused, synthetic = read_volumes(options)
    side = choose_side(checkpoint, volumes) if options.side is None else options.side
    mapper = make(volumes, side)
    with volumes_shown() as show:
        record = write_maps(
            options.folder,
            volumes,
            mapper,
            formats=[name for name in options.to.split(",") if name],
            shard_size=options.shard_size,
            keep_volumes=not options.only_maps,
            synthetic=synthetic,
            single_file=options.single_file,
            on_progress=show,
        )
    result = {key: value for key, value in record.items() if key != "volumes"} | {"refused": refused}
    result |= about or {}
    print_result(result, _summary(result, options.folder), options.json)
    return SOME_FAILED if refused or record["failures"] else DONE


def _summary(result: dict[str, Any], out: Path) -> Iterator[str]:
    counts = result["counts"]
    model = result["identity"].get("checkpoint", "a model from memory")
    yield f"{out}: {counts['done']} of {counts['total']} volumes, {result['status']}, {result['method']} by {model}"
    yield f"{result['seconds']['total']:.1f} s, {result['side']} voxels a side, on {result['hardware']['name']}"
    if result["synthetic"]:
        yield "the volumes are synthetic"
    for name, place in result["outputs"].items():
        yield f"{name}: {out / place}"
    for failure in result["failures"]:
        yield f"failed in {failure['stage']}: {failure['reason']}"
