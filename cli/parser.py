"""The command-line parser, assembled from the families of subcommands. A new family is one file and one line here."""

import argparse
from typing import NoReturn

from ..engine.version import VERSION
from . import anomaly, codec, models, optimize, runs, spectrogram, tuning
from .exit_status import USAGE

FAMILIES = (optimize, runs, tuning, models, codec, anomaly, spectrogram)  # in the order shown by `relatent --help`


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line on stderr, without the usage. Its subcommands' parsers are of this class too."""

    def error(self, message: str) -> NoReturn:
        """Print the error and where the help is, and exit with the status of a usage error."""
        self.exit(USAGE, f"{self.prog}: error: {' '.join(message.split())}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands.

    `run` of the parsed options is the function that executes the subcommand.
    """
    parser = OneLineParser(
        prog="relatent", description="Find the latents a frozen decoder really needs, and write them as datasets."
    )
    parser.add_argument("--version", action="version", version=f"relatent {VERSION}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for family in FAMILIES:
        family.add_commands(commands)
    return parser
