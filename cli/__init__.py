"""The `relatent` command: `main` runs one command line. There is one file per family of subcommands."""

from .main import main

__all__ = ["main"]
