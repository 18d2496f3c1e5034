"""The subcommand anomaly train."""

import argparse
from typing import Any

from ...systems.anomaly.train import is_override  # does not import torch
from ..exit_status import DONE
from ..options import add_command
from ..start_up import start_torch
from ..text import print_result
from .packages import needs_packages


def add_commands(commands: Any) -> None:
    """Declare train."""
    train = add_command(commands, "train", _train, "a model of normal volumes; goes on where it was stopped")
    train.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="keys of the configuration, such as fold_id=1 or model.num_embeddings=1024; docs/anomaly_training.md lists them",
    )
    train.add_argument(
        "--config-name",
        default="config",
        metavar="NAME",
        help="config, or config_debug for a short run (default: config)",
    )
    # argparse takes the words of one positional argument in one run only; those of Hydra stand before and behind options
    parse = train.parse_known_args
    train.parse_known_args = lambda words, namespace=None: parse(sorted(words, key=is_override), namespace)  # type: ignore


def _train(options: argparse.Namespace) -> int:
    """Run `relatent anomaly train`, and return its exit status."""
    start_torch()
    with needs_packages():
        from ...systems.anomaly.training.run import read_config, train
    result = train(read_config(options.overrides, options.config_name))
    print_result(result, [f"{name}: {value}" for name, value in result.items()], options.json)
    return DONE
