"""The subcommand anomaly demo."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..exit_status import DONE
from ..options import add_command
from ..start_up import start_torch
from ..text import print_result
from .packages import needs_packages


def add_commands(commands: Any) -> None:
    """Declare demo."""
    demo = add_command(
        commands, "demo", _demo, "everything on synthetic vertebrae with the bundled model, in under three minutes"
    )
    demo.add_argument(
        "folder", metavar="OUT", type=Path, help="for volumes, maps and pages; an unfinished demo goes on"
    )
    demo.add_argument(
        "--volumes", type=int, default=8, metavar="N", help="to judge, and as many for thresholds (default: 8)"
    )


def _demo(options: argparse.Namespace) -> int:
    """Run `relatent anomaly demo`, and return its exit status."""
    start_torch()
    with needs_packages():
        from ...systems.anomaly.demo import run_demo

        result = run_demo(options.folder, options.volumes, lambda line: print(line, file=sys.stderr, flush=True))
    print_result(result, _lines(result), options.json)
    return DONE


def _lines(result: dict[str, Any]) -> Iterator[str]:
    yield f"{result['volumes']} synthetic volumes of {result['side']}³, half of them abnormal, in {result['seconds']:.0f} s"
    for method, found in result["methods"].items():
        voxels = found["voxels"]
        yield (
            f"{method}: voxel AUROC {voxels['auroc']:.3f}, AUPRC {voxels['auprc']:.3f}, Dice {voxels['dice']:.3f}; "
            f"look at {found['report']}"
        )
