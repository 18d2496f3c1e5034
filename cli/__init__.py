"""The `relatent` command: `main` runs one command line. One file per family of subcommands."""

from .main import main

__all__ = ["main"]
