"""The subcommand that tunes an encoder for a run's decoder: tune-encoder."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .exit_status import DONE
from .options import add_command, recorded_device_option
from .start_up import start_torch
from .text import print_result


def add_commands(commands: Any) -> None:
    """Declare tune-encoder."""
    tune = add_command(
        commands, "tune-encoder", _tune, "an encoder tuned for a run's decoder on its pictures; for --start tuned"
    )
    tune.add_argument("folder", metavar="RUN", type=Path, help="the folder of a run; its pictures must still be there")
    tune.add_argument("--output", type=Path, metavar="FILE", help="default: kept for --start tuned, one per decoder")
    tune.add_argument("--steps", type=int, default=2000, metavar="N", help="default: 2000")
    tune.add_argument("--batch-size", type=int, default=8, metavar="N", help="crops of a step (default: 8)")
    tune.add_argument("--crop", type=int, default=128, metavar="N", help="side of a crop in pixels (default: 128)")
    tune.add_argument("--learning-rate", type=float, default=5e-5, metavar="F", help="default: 5e-5")
    tune.add_argument("--seed", type=int, default=0, metavar="N", help="of the crops (default: 0)")
    recorded_device_option(tune)


def _tune(options: argparse.Namespace) -> int:
    """Run `relatent tune-encoder`, and return its exit status."""
    start_torch()
    from ..engine.tuning.settings import TuningSettings
    from ..factory.tuning import tune_encoder

    settings = TuningSettings(
        steps=options.steps,
        batch_size=options.batch_size,
        crop=options.crop,
        learning_rate=options.learning_rate,
        seed=options.seed,
    )
    found = tune_encoder(
        options.folder,
        settings,
        options.output,
        device=options.device,
        on_line=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print_result(found, _lines(found, options.output), options.json)
    return DONE


def _lines(found: dict[str, Any], output: Path | None) -> Iterator[str]:
    facts = found["facts"]
    start = "tuned" if output is None else output
    yield f"{found['path']}"
    yield f"{facts['gain_db']:+.2f} dB over the encoder without an iteration, on {facts['held_out']} pictures held out"
    if facts["gain_db"] > 0.0:
        yield f"iterations start there with: relatent optimize INPUT OUT --start {start}"
    else:
        yield "it is no better than the encoder: more steps or more pictures may help"
