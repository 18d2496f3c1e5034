"""The subcommand spectrogram validate."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ..exit_status import DONE
from ..options import add_command
from ..start_up import start_torch
from ..text import print_result
from .packages import needs_packages

EXAMPLES = """examples:
  relatent spectrogram validate --data_dir spectrograms --generated_dir samples --output_dir validation
  relatent spectrogram validate --data_dir spectrograms --generated_dir samples --output_dir validation --resolution 64

The same command again uses the validators that it trained, so other samples are judged in seconds; a training that was stopped
goes on. Every option may be written with dashes, too. docs/spectrogram_validation.md says what the scores mean.
"""
OPTIONS: dict[str, dict[str, Any]] = {
    "data_dir": dict(type=Path, required=True, metavar="REAL", help="folder with ID_1, ID_2, … and spectrograms.json"),
    "generated_dir": dict(type=Path, required=True, metavar="GENERATED", help="folder with generated ID_1, ID_2, …"),
    "output_dir": dict(
        type=Path, required=True, metavar="OUT", help="validation.json, report.html and validators go here"
    ),
    "vae_dir": dict(
        type=Path, metavar="DIR", help="a VAE, to show its reconstructions of held-out pictures on the page"
    ),
    "num_users": dict(type=int, metavar="N", help="users, from ID_1 on (default: all in REAL)"),
    "resolution": dict(
        type=int, default=128, metavar="N", help="side of the pictures, a multiple of 16 (default: 128)"
    ),
    "epochs": dict(type=int, default=24, metavar="N", help="of each of the three trainings (default: 24)"),
    "batch_size": dict(type=int, default=32, metavar="N", help="pictures (default: 32)"),
    "held_out": dict(
        type=float,
        default=0.2,
        metavar="F",
        help="part of each user's recordings, as in the generator's training (default: 0.2)",
    ),
    "seed": dict(type=int, default=0, metavar="N", help="of weights and order (default: 0)"),
}


def add_commands(commands: Any) -> None:
    """Declare validate."""
    about = "how good generated spectrograms are, by validators that are trained on real ones"
    validate = add_command(
        commands, "validate", _validate, about, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, declared in OPTIONS.items():
        spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
        validate.add_argument(*spellings, **declared)


def _validate(options: argparse.Namespace) -> int:
    """Run `relatent spectrogram validate`, and return its exit status: targets that fail are a result, not a failure."""
    start_torch()
    with needs_packages():
        from ...systems.spectrogram.data.spectrogram_folder import read_spectrograms
        from ...systems.spectrogram.report.page import write_report
        from ...systems.spectrogram.validation.fitting import FitSettings
        from ...systems.spectrogram.validation.pipeline import ValidationSettings, validate

        users = options.num_users or 1 + max(item.user for item in read_spectrograms(options.data_dir))
        fit = FitSettings(users, options.resolution, options.epochs, options.batch_size, seed=options.seed)
        settings = ValidationSettings(
            options.data_dir, options.generated_dir, options.output_dir, fit, options.held_out
        )
        result, pictures = validate(settings, lambda line: print(line, file=sys.stderr, flush=True))
        report = write_report(result, pictures, options.output_dir, options.vae_dir)
    short = {name: result[name] for name in ("simulated", "counts", "judge", "scores", "drawn_marks", "seconds")}
    print_result(short | {"report": str(report)}, _lines(result, report), options.json)
    return DONE


def _lines(result: dict[str, Any], report: Path) -> list[str]:
    """A table of the scores."""
    heads = ("score", "generated", "real", "independent", "target")
    rows = [f"{heads[0]:60} {heads[1]:>10} {heads[2]:>10} {heads[3]:>12}  {heads[4]}"]
    for score in result["scores"]:
        values = ["–" if score[name] is None else f"{score[name]:.3g}" for name in ("value", "real", "baseline")]
        target = "" if score["target"] is None else f"{score['sense']} {score['target']:.3g}"
        verdict = {None: "", True: "holds", False: "fails"}[score["holds"]]
        rows.append(
            f"{score['label']:60} {values[0]:>10} {values[1]:>10} {values[2]:>12}  {target:8} {verdict}".rstrip()
        )
    simulated = ["The real spectrograms are simulated."] if result["simulated"] else []
    judge = (
        []
        if result["judge"]["holds"]
        else ["The classifier does not hold on held-out real recordings: it is no judge."]
    )
    return [*rows, *simulated, *judge, str(report)]
