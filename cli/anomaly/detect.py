"""The subcommand anomaly detect."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...engine.errors import UsageError
from ..options import add_command
from ..start_up import start_torch
from .map_run import chosen_checkpoint, map_options, run_maps
from .packages import needs_packages
from .progress import volumes_shown

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
    map_options(detect)
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


def _detect(options: argparse.Namespace) -> int:
    """Run `relatent anomaly detect`, and return its exit status."""
    given = [name for name in FOR_TRAINING if getattr(options, name) is not None]
    if options.detector is not None and given:
        raise UsageError(f"--{given[0].replace('_', '-')} goes with --train, not with --detector")
    checkpoint = chosen_checkpoint(options)
    start_torch()
    with needs_packages():
        from ...systems.anomaly.detector.mapper import DetectorMapper
        from ...systems.anomaly.detector.patients import check_disjoint
        from ...systems.anomaly.maps.error_mapper import ErrorMapper

        about: dict[str, Any] = {}

        def make(volumes: "list[Volume]", side: int) -> "Mapper":
            base = ErrorMapper(checkpoint, side, options.batch_size, device=options.device)
            detector = options.detector if options.train is None else _train(options, base, volumes)
            mapper = DetectorMapper(base, detector, options.device)
            check_disjoint(mapper.patients, volumes)
            about.update(detector=str(detector), training=mapper.history)
            return mapper

        return run_maps(options, checkpoint, make, about)


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
