"""The subcommands of spectrograms of walkers. A new subcommand is one file here and one entry in COMMANDS."""

import argparse
from typing import Any

from . import simulate, validate

COMMANDS = (simulate, validate)  # in the order of `relatent spectrogram --help`

EXAMPLES = """examples:
  relatent spectrogram simulate data/                        simulated spectrograms of 31 walkers; goes on where it was stopped
  relatent spectrogram validate --data_dir data --generated_dir samples --output_dir validation      scores, and a page to look at

Spectrograms are pictures in folders ID_1, ID_2, …, one per user. docs/spectrogram.md has the formats, and what the simulator is
and is not. `relatent spectrogram COMMAND --help` lists a command's options.
What it needs comes with: pip install "relatent[spectrogram]"
"""


def add_commands(commands: Any) -> None:
    """Declare spectrogram and its subcommands."""
    spectrogram = commands.add_parser(
        "spectrogram",
        help="micro-Doppler spectrograms of walkers: simulation, and models that are told who walks",
        description="Micro-Doppler spectrograms of walkers: simulation, and models that are told who walks.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own = spectrogram.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_commands(own)
