"""The subcommand anomaly detect."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...engine.errors import UsageError
from ...systems.anomaly.bundled import ADRENAL, VERTEBRAE, find_checkpoint  # does not import torch
from ..exit_status import DONE, SOME_FAILED
from ..options import add_command, device_option
from ..start_up import start_torch
from ..text import print_result
from .maps import map_summary
from .packages import needs_packages
from .progress import volumes_shown
from .volume_arguments import is_archive, read_volumes, volume_arguments

if TYPE_CHECKING:
    from ...systems.anomaly.data.volume import Volume
    from ...systems.anomaly.maps.mapper import Mapper

FOR_TRAINING = ("labels", "label_margin", "weights", "margin", "epochs", "seed")


def add_commands(commands: Any) -> None:
    """Declare detect."""
    usage = (
        "%(prog)s [-h] [--json] VOLUMES OUT --train TRAINING_VOLUMES [--labels KIND] [OPTION …]\n"
        "       %(prog)s [-h] [--json] VOLUMES OUT --detector FILE [OPTION …]"
    )
    about = (
        "the probability that a voxel is abnormal, by a detector trained with weak labels; goes on where it was stopped"
    )
    detect = add_command(commands, "detect", _detect, about, usage=usage)
    volume_arguments(detect)
    detect.add_argument(
        "folder", metavar="OUT", type=Path, help="the folder of the run; an unfinished one there goes on"
    )
    detector = detect.add_mutually_exclusive_group(required=True)
    detector.add_argument(
        "--train",
        metavar="TRAINING_VOLUMES",
        type=Path,
        help="train OUT/detector.ckpt first, on a folder of normal and abnormal volumes of other patients",
    )
    detector.add_argument("--detector", metavar="FILE", type=Path, help="a trained detector.ckpt")
    detect.add_argument(
        "--labels", choices=("boxes", "slices"), help="of the anomalies in the training volumes (default: boxes)"
    )
    detect.add_argument(
        "--label-margin", type=int, metavar="N", help="voxels round a label that is made of a mask (default: 0)"
    )
    detect.add_argument(
        "--weights",
        type=float,
        nargs=4,
        metavar="λ",
        help="λ1 to λ4 of the losses; docs/anomaly_detector.md has the defaults",
    )
    detect.add_argument("--margin", type=float, metavar="M", help="of the third loss (default: 0.5)")
    detect.add_argument("--epochs", type=int, metavar="N", help="of the training (default: 15)")
    detect.add_argument("--seed", type=int, metavar="N", help="of the training (default: 42)")
    detect.add_argument(
        "--model",
        metavar="NAME|PATH",
        help=f"makes the error maps: {VERTEBRAE} or {ADRENAL}, or a checkpoint of anomaly train (default: {VERTEBRAE}, for an "
        f"archive {ADRENAL})",
    )
    detect.add_argument(
        "--side", type=int, metavar="N", help="voxels a side; volumes are cropped or padded (default: as in training)"
    )
    detect.add_argument("--to", default="hdf5", metavar="FORMATS", help="hdf5 and npy, with commas (default: hdf5)")
    detect.add_argument("--only-maps", action="store_true", help="store no volumes and reconstructions beside the maps")
    detect.add_argument(
        "--shard-size", type=int, default=16, metavar="N", help="volumes in a file of the run (default: 16)"
    )
    device_option(detect)


def _detect(options: argparse.Namespace) -> int:
    """Run `relatent anomaly detect`, and return its exit status."""
    given = [name for name in FOR_TRAINING if getattr(options, name) is not None]
    if options.detector is not None and given:
        raise UsageError(f"--{given[0].replace('_', '-')} goes with --train, not with --detector")
    checkpoint = find_checkpoint(options.model or (ADRENAL if is_archive(options) else VERTEBRAE))
    start_torch()
    with needs_packages():
        from ...systems.anomaly.detector.mapper import DetectorMapper
        from ...systems.anomaly.detector.patients import check_disjoint
        from ...systems.anomaly.maps.error_mapper import ErrorMapper
        from ...systems.anomaly.maps.run import write_maps
        from ...systems.anomaly.maps.side import choose_side

        volumes, refused, synthetic = read_volumes(options)
        side = choose_side(checkpoint, volumes) if options.side is None else options.side
        base = ErrorMapper(checkpoint, side, device=options.device)
        detector = options.detector if options.train is None else _train(options, base, volumes)
        mapper = DetectorMapper(base, detector, options.device)
        check_disjoint(mapper.patients, volumes)
        with volumes_shown() as show:
            record = write_maps(
                options.folder,
                volumes,
                mapper,
                formats=[name for name in options.to.split(",") if name],
                shard_size=options.shard_size,
                keep_volumes=not options.only_maps,
                synthetic=synthetic,
                on_progress=show,
            )
    result = {key: value for key, value in record.items() if key != "volumes"} | {"refused": refused}
    result |= {"detector": str(detector), "training": mapper.history}
    print_result(result, map_summary(result, options.folder), options.json)
    return SOME_FAILED if refused or record["failures"] else DONE


def _train(options: argparse.Namespace, base: "Mapper", judged: "list[Volume]") -> Path:
    """Train a detector in OUT, and return its checkpoint."""
    from ...systems.anomaly.data.volume_folder import read_folder
    from ...systems.anomaly.detector.settings import DetectorSettings
    from ...systems.anomaly.detector.training import train_detector

    given = {name: getattr(options, name) for name in FOR_TRAINING if getattr(options, name) is not None}
    settings = DetectorSettings.of(given)  # a list becomes a tuple
    volumes, lines = read_folder(options.train)
    for line in lines:
        print(f"relatent: {line}", file=sys.stderr)
    with volumes_shown() as show:
        return train_detector(base, volumes, options.folder, settings, judged, _epoch_done, show)


def _epoch_done(epoch: int, epochs: int, loss: float) -> None:
    print(f"epoch {epoch}/{epochs}: validation loss {loss:.4g}", file=sys.stderr, flush=True)
