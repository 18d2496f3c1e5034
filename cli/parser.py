"""The parser of the command line, put together from the families of subcommands. A new family is one file and one line."""

import argparse

from ..engine.version import VERSION
from . import models, optimize, runs

FAMILIES = (optimize, runs, models)  # in the order of `relatent --help`


def build_parser() -> argparse.ArgumentParser:
    """The parser of every subcommand; `run` of what it parses is the function that runs the subcommand."""
    parser = argparse.ArgumentParser(
        prog="relatent", description="Find the latents a frozen decoder really needs, and write them as datasets."
    )
    parser.add_argument("--version", action="version", version=f"relatent {VERSION}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for family in FAMILIES:
        family.add_commands(commands)
    return parser
