"""The command-line parser, assembled from the families of subcommands. A new family is one file and one line here."""

import argparse

from ..engine.version import VERSION
from . import anomaly, codec, models, optimize, runs, spectrogram, tuning

FAMILIES = (optimize, runs, tuning, models, codec, anomaly, spectrogram)  # in the order shown by `relatent --help`


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands.

    `run` of the parsed options is the function that executes the subcommand.
    """
    parser = argparse.ArgumentParser(
        prog="relatent", description="Find the latents a frozen decoder really needs, and write them as datasets."
    )
    parser.add_argument("--version", action="version", version=f"relatent {VERSION}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for family in FAMILIES:
        family.add_commands(commands)
    return parser
