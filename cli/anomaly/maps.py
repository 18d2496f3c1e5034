"""The subcommand anomaly map."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...systems.anomaly.bundled import ADRENAL, VERTEBRAE, find_checkpoint  # does not import torch
from ..exit_status import DONE, SOME_FAILED
from ..options import add_command, device_option
from ..start_up import start_torch
from ..text import print_result
from .packages import needs_packages
from .progress import volumes_shown
from .volume_arguments import is_archive, read_volumes, volume_arguments


def add_commands(commands: Any) -> None:
    """Declare map."""
    maps = add_command(
        commands, "map", _map, "what a model cannot reconstruct of each volume; goes on where it was stopped"
    )
    volume_arguments(maps)
    maps.add_argument("folder", metavar="OUT", type=Path, help="the folder of the run; an unfinished one there goes on")
    maps.add_argument(
        "--model",
        metavar="NAME|PATH",
        help=f"a bundled model, {VERTEBRAE} or {ADRENAL}, or a checkpoint of anomaly train (default: {VERTEBRAE}, for an "
        f"archive {ADRENAL})",
    )
    maps.add_argument(
        "--side", type=int, metavar="N", help="voxels a side; volumes are cropped or padded (default: as in training)"
    )
    maps.add_argument("--to", default="hdf5", metavar="FORMATS", help="hdf5 and npy, with commas (default: hdf5)")
    maps.add_argument(
        "--single-file", action="store_true", help="maps.h5 with all data in it, not one that refers to the shards"
    )
    maps.add_argument("--only-maps", action="store_true", help="store no volumes and reconstructions beside the maps")
    maps.add_argument("--batch-size", type=int, default=4, metavar="N", help="volumes at once (default: 4)")
    maps.add_argument(
        "--shard-size", type=int, default=16, metavar="N", help="volumes in a file of the run (default: 16)"
    )
    maps.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="of the network (default: fp32)")
    device_option(maps)


def _map(options: argparse.Namespace) -> int:
    """Run `relatent anomaly map`, and return its exit status."""
    checkpoint = find_checkpoint(options.model or (ADRENAL if is_archive(options) else VERTEBRAE))
    start_torch()
    with needs_packages():
        from ...systems.anomaly.maps.error_mapper import ErrorMapper
        from ...systems.anomaly.maps.run import write_maps
        from ...systems.anomaly.maps.side import choose_side

        volumes, refused, synthetic = read_volumes(options)
        side = choose_side(checkpoint, volumes) if options.side is None else options.side
        mapper = ErrorMapper(checkpoint, side, options.batch_size, options.precision, options.device)
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
    print_result(result, map_summary(result, options.folder), options.json)
    return SOME_FAILED if refused or record["failures"] else DONE


def map_summary(result: dict[str, Any], out: Path) -> Iterator[str]:
    """Yield the lines printed at the end of a run of maps, from the contents of its run.json."""
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
