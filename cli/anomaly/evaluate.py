"""The subcommand anomaly evaluate."""

import argparse
from pathlib import Path
from typing import Any

from ...engine.errors import UsageError
from ...systems.anomaly.bundled import ADRENAL  # does not import torch
from ..exit_status import DONE, SOME_FAILED
from ..options import add_command
from ..start_up import start_torch
from ..text import print_result
from .packages import needs_packages
from .progress import volumes_shown

FOR_ARCHIVES = ("split", "model", "calibrate_on", "limit")


def add_commands(commands: Any) -> None:
    """Declare evaluate."""
    about = "how well maps tell abnormal voxels and volumes, beside simple baselines"
    usage = (
        "%(prog)s [-h] [--json] MAPS [--validation MAPS] [OPTION …]\n"
        "       %(prog)s [-h] [--json] --data FILE.npz --split SPLIT [--model MODEL] [--calibrate-on SPLIT] [OPTION …]"
    )
    evaluate = add_command(commands, "evaluate", _evaluate, about, usage=usage)
    evaluate.add_argument(
        "maps", metavar="MAPS", type=Path, nargs="?", help="the folder of `relatent anomaly map`, or its file"
    )
    evaluate.add_argument(
        "--validation", metavar="MAPS", type=Path, help="other volumes' maps, for the thresholds alone"
    )
    evaluate.add_argument(
        "--data", metavar="FILE.npz", type=Path, help="an archive of MedMNIST, whose maps are made first"
    )
    evaluate.add_argument("--split", metavar="SPLIT", help="of the archive: train, val or test")
    evaluate.add_argument("--model", metavar="MODEL", help=f"a checkpoint or a bundled model (default: {ADRENAL})")
    evaluate.add_argument(
        "--calibrate-on",
        metavar="SPLIT",
        help="the split for the thresholds (default: val; else those stored with the model)",
    )
    evaluate.add_argument("--limit", metavar="N", type=int, help="at most N volumes of each split, evenly spread")
    evaluate.add_argument("--score", metavar="NAME", help="this score alone (default: all)")
    evaluate.add_argument(
        "--smooth", metavar="SIGMA", type=float, default=0.0, help="of a Gaussian over the maps, in voxels (default: 0)"
    )
    evaluate.add_argument("--out", metavar="DIR", type=Path, help="for evaluation.json, table.md and an archive's maps")


def _evaluate(options: argparse.Namespace) -> int:
    """Run `relatent anomaly evaluate`, and return its exit status."""
    given = [name for name in FOR_ARCHIVES if getattr(options, name) is not None]
    if (options.maps is None) == (options.data is None):
        raise UsageError("give either MAPS or --data FILE.npz")
    if options.maps is not None and given:
        raise UsageError(f"--{given[0].replace('_', '-')} goes with --data FILE.npz, not with MAPS")
    if options.data is not None and (options.split is None or options.validation is not None):
        raise UsageError("--data takes --split, and --calibrate-on in place of --validation")
    start_torch()
    with needs_packages():
        from ...systems.anomaly.evaluation.archive import evaluate_archive
        from ...systems.anomaly.evaluation.run import evaluate_maps, write_evaluation
        from ...systems.anomaly.evaluation.tables import markdown_tables

        if options.maps is not None:
            result = evaluate_maps(options.maps, options.validation, options.score, options.smooth)
        else:
            with volumes_shown() as show:
                result = evaluate_archive(
                    options.data,
                    options.split,
                    options.model or ADRENAL,
                    options.calibrate_on,
                    options.out,
                    options.limit,
                    options.score,
                    options.smooth,
                    show,
                )
    if options.out is not None:
        write_evaluation(result, options.out)
    print_result(result, (markdown_tables(result) for _ in range(1)), options.json)
    return SOME_FAILED if result.get("failed") else DONE
