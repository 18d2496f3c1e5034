"""The subcommand anomaly map."""

import argparse
from typing import Any

from ..options import add_command
from ..start_up import start_torch
from .map_run import chosen_checkpoint, map_options, run_maps
from .packages import needs_packages


def add_commands(commands: Any) -> None:
    """Declare map."""
    maps = add_command(
        commands, "map", _map, "what a model cannot reconstruct of each volume; goes on where it was stopped"
    )
    map_options(maps)
    maps.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="of the network (default: fp32)")


def _map(options: argparse.Namespace) -> int:
    """Run `relatent anomaly map`, and return its exit status."""
    checkpoint = chosen_checkpoint(options)
    start_torch()
    with needs_packages():
        from ...systems.anomaly.maps.error_mapper import ErrorMapper

        return run_maps(
            options,
            checkpoint,
            lambda _, side: ErrorMapper(checkpoint, side, options.batch_size, options.precision, options.device),
        )
