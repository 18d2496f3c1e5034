"""The subcommand spectrogram simulate."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..exit_status import DONE
from ..options import add_command
from ..text import print_result
from .packages import needs_packages


def add_commands(commands: Any) -> None:
    """Declare simulate."""
    simulate = add_command(
        commands, "simulate", _simulate, "simulated spectrograms of walkers; goes on where it was stopped"
    )
    simulate.add_argument("folder", metavar="OUT", type=Path, help="for ID_1, ID_2, … and spectrograms.json")
    for name, default, about in (
        ("users", 31, "walkers"),
        ("recordings", 5, "of each walker, on other days and paths"),
        ("windows", 20, "pictures of each recording, 3.2 s each"),
        ("side", 128, "pixels"),
        ("seed", 0, "another one gives other walkers"),
    ):
        simulate.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{about} (default: {default})")


def _simulate(options: argparse.Namespace) -> int:
    """Run `relatent spectrogram simulate`, and return its exit status."""
    with needs_packages():
        from ...systems.spectrogram.data.simulate import simulate

        numbers = {name: getattr(options, name) for name in ("users", "recordings", "windows", "side", "seed")}
        result = simulate(options.folder, **numbers, notify=_progress)
    print_result(result, _lines(result), options.json)
    return DONE


def _progress(done: int, users: int) -> None:
    """Say on stderr how far it is: on a terminal in one line, elsewhere at every tenth user and at the last one."""
    if sys.stderr.isatty():
        print(f"\r{done} of {users} users", end="\n" if done == users else "", file=sys.stderr, flush=True)
    elif done % 10 == 0 or done == users:
        print(f"{done} of {users} users", file=sys.stderr, flush=True)


def _lines(result: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{result['pictures']} simulated spectrograms of {result['users']} users, {result['recordings']} recordings each, "
        f"{result['side']}×{result['side']}: {result['folder']}"
    )
    yield f"{result['made']} of them made now, in {result['seconds']:.1f} s"
