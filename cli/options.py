"""Declaration of subcommands, and the options that several subcommands share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..engine.optimization.presets import PRESETS  # does not import torch

MOST_SEED = 2**63 - 1


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], about: str, **settings: Any
) -> argparse.ArgumentParser:
    """Declare the subcommand `name`, which calls `run` with the parsed options and exits with the status it returns.

    commands: the return value of `add_subparsers`. about: the line of help. settings: passed to `ArgumentParser`.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", **settings
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)
    return parser


def out_argument(parser: argparse.ArgumentParser, about: str | None = None) -> None:
    """Declare the argument OUT, the folder of a run.

    If the command is stopped, `main` prints how to resume the run in this folder.
    """
    parser.add_argument("out", metavar="OUT", type=Path, help=about)


def autoencoder_options(parser: argparse.ArgumentParser) -> None:
    """Declare --vae and --weights, which select the autoencoder."""
    parser.add_argument(
        "--vae",
        default="sd15",
        metavar="NAME|PATH",
        help="a name (`relatent models` lists them), a folder, a checkpoint, or owner/name on the hub (default: sd15)",
    )
    parser.add_argument("--weights", metavar="PATH", help="a folder or file with the named VAE's weights")


def preset_options(parser: argparse.ArgumentParser) -> None:
    """Declare --preset and --iterations, which determine the work per picture."""
    parser.add_argument(
        "--preset", metavar="|".join(PRESETS), help="how much work to spend per picture; other settings win over it"
    )
    parser.add_argument("--iterations", type=int, metavar="N", help="gradient steps per picture")


def device_option(parser: argparse.ArgumentParser, choices: str = "auto|cpu|cuda|cuda:1|mps") -> None:
    """Declare --device of a command that starts something new."""
    parser.add_argument("--device", default="auto", metavar=choices)


def recorded_device_option(parser: argparse.ArgumentParser) -> None:
    """Declare --device of a command that continues a run, whose device is recorded."""
    parser.add_argument("--device", metavar="auto|cpu|cuda|cuda:1|mps", help="default: as the run began")


def execution_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that select the executor and limit the number of failures."""
    parser.add_argument("--workers", type=int, metavar="N", help="processes that read pictures ahead, for each device")
    parser.add_argument("--devices", metavar="N|auto", help="one process per GPU over the same plan; on CPU, N of them")
    parser.add_argument(
        "--ray", nargs="?", const="local", metavar="ADDRESS", help="on Ray: that cluster, or one on this machine"
    )
    parser.add_argument("--max-failures", type=int, metavar="N", help="stop when more pictures than that have failed")


def execution_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the values of `execution_options` as keyword arguments of `optimize_directory` and `resume_directory`."""
    devices = options.devices
    if devices is not None and devices != "auto":
        devices = whole_number("--devices", devices)
    return {
        "workers": options.workers,
        "devices": devices,
        "ray": options.ray,
        "max_failures": options.max_failures,
        "progress": True,
    }


def seed(text: str) -> int:
    """Return the seed given for an option, a whole number that torch takes. argparse reports the error."""
    if not text.isdecimal() or len(text) > len(str(MOST_SEED)) or int(text) > MOST_SEED:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {MOST_SEED}, found {text!r}")
    return int(text)


def whole_number(option: str, text: str) -> int:
    """Return the number given for an option that also takes `auto`. Raises `UsageError` if it is not a whole number."""
    from ..engine.errors import UsageError

    if not text.isdecimal():
        raise UsageError(f"{option}: expected a whole number or auto, found {text!r}")
    return int(text)
