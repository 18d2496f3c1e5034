"""The subcommand anomaly report."""

import argparse
from pathlib import Path
from typing import Any

from ..exit_status import DONE
from ..options import add_command
from ..text import print_result
from .packages import needs_packages


def add_commands(commands: Any) -> None:
    """Declare report."""
    report = add_command(
        commands, "report", _report, "a page to look at, MAPS/report.html: slices, projections, scores"
    )
    report.add_argument("maps", metavar="MAPS", type=Path, help="the folder of `relatent anomaly map`, or its file")
    report.add_argument(
        "--score", metavar="NAME", help="the score that orders the volumes (default: mean_error, or the first)"
    )


def _report(options: argparse.Namespace) -> int:
    """Run `relatent anomaly report`, and return its exit status."""
    with needs_packages():
        from ...systems.anomaly.report.page import write_report

        path = write_report(options.maps, options.score)
    print_result({"report": str(path)}, [str(path)], options.json)
    return DONE
