"""The subcommand anomaly check."""

import argparse
from dataclasses import asdict
from typing import Any

from ..exit_status import DONE, SOME_FAILED
from ..options import add_command
from ..start_up import start_torch
from ..text import print_json


def add_commands(commands: Any) -> None:
    """Declare check."""
    add_command(
        commands,
        "check",
        _check,
        "does everything work here? Seven steps, with a short training, in a temporary folder",
    )


def _check(options: argparse.Namespace) -> int:
    """Run `relatent anomaly check`, and return its exit status."""
    start_torch()
    from ...systems.anomaly.installation_check import check_installation

    steps = []
    for step in check_installation():
        steps.append(step)
        if not options.json:
            print(f"{'ok' if step.ok else 'failed':6}  {step.name:13} {step.seconds:5.1f} s  {step.detail}", flush=True)
    ok = all(step.ok for step in steps)
    if options.json:
        print_json({"ok": ok, "steps": [asdict(step) for step in steps]})
    return DONE if ok else SOME_FAILED
