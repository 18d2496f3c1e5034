"""`relatent codec train`."""

import argparse
import sys
from typing import Any

from .options import settings_of
from .trainer import Trainer


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Train as the flags of `options.add_training_options` say; progress goes to stderr. Returns what the command prints."""
    trainer = Trainer(
        settings_of(options),
        options.num_workers,
        options.log_every,
        options.save_every,
        options.wandb,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    return trainer.run()
