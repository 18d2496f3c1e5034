"""The subcommands of spectrograms of walkers. A new subcommand is one file here and one entry in COMMANDS."""

import argparse
from typing import Any

from . import validate

COMMANDS = (validate,)  # in the order of `relatent spectrogram --help`


def add_commands(commands: Any) -> None:
    """Declare spectrogram and its subcommands."""
    spectrogram = commands.add_parser(
        "spectrogram",
        help="micro-Doppler spectrograms of walkers: simulate, learn, generate, validate",
        description="Micro-Doppler spectrograms of walkers: simulate, learn, generate, validate.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own = spectrogram.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_commands(own)
