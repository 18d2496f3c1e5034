"""The flags of `relatent codec train` and of the ablation. No import of torch here, so that the command's help is quick."""

import argparse
from dataclasses import fields
from typing import Any

from .settings import PRECISIONS, SCHEDULES, TrainingSettings

DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(TrainingSettings)}


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Declare the flags; `settings_of` reads them."""
    run = parser.add_argument_group("run")
    run.add_argument("--train_dataset", "--train-dataset", required=True, metavar="PATH", help="folder of pictures")
    run.add_argument("--test_dataset", "--test-dataset", metavar="PATH", help="pictures to test on after every epoch")
    run.add_argument("--save_path", "--save-path", required=True, metavar="DIR", help="checkpoints and models go here")
    run.add_argument("--log_dir", "--log-dir", metavar="DIR", help="TensorBoard's logs (default: --save_path)")
    run.add_argument(
        "--checkpoint", metavar="FILE", help="start from this one, also of another λ or other phases (default: anew)"
    )
    run.add_argument("--seed", type=int, **_default("seed"))
    run.add_argument("--device", **_default("device", "cpu, cuda or cuda:1"))
    run.add_argument("--precision", choices=PRECISIONS, **_default("precision", "bf16: autocast"))
    run.add_argument(
        "--num-workers", type=int, default=0, metavar="N", help="processes that read pictures (default: 0)"
    )
    run.add_argument("--log-every", type=int, default=10, metavar="N", help="steps between log entries (default: 10)")
    run.add_argument(
        "--save-every", type=int, default=500, metavar="N", help="steps between checkpoints (default: 500)"
    )
    run.add_argument("--wandb", action="store_true", help="also log to Weights & Biases, offline")

    model = parser.add_argument_group("model and loss")
    model.add_argument(
        "--model_name", "--model-name", metavar="NAME", **_default("model_name", "small, HPCM_Base or HPCM_Large")
    )
    model.add_argument(
        "--lambda", dest="lmbda", type=float, metavar="λ", **_default("lmbda", "weight of the distortion")
    )
    model.add_argument("--epochs", type=int, **_default("epochs"))
    model.add_argument("--batch-size", "--batch_size", type=int, **_default("batch_size"))
    model.add_argument("--patch-size", "--patch_size", type=int, **_default("patch_size", "side of the crops, pixels"))
    model.add_argument("--learning-rate", "--learning_rate", type=float, **_default("learning_rate"))
    model.add_argument(
        "--lr-schedule", choices=SCHEDULES, **_default("lr_schedule", "drops: to 0.3, 0.1, 0.01 at 11/12, 57/60, 59/60")
    )
    model.add_argument("--clip-max-norm", "--clip_max_norm", type=float, **_default("clip_max_norm", "0: do not clip"))
    _add_phases(parser)


def settings_of(options: argparse.Namespace) -> TrainingSettings:
    """Read what `add_training_options` declared. Raises `UsageError`."""
    return TrainingSettings(**{name: getattr(options, name) for name in DEFAULTS})


def _add_phases(parser: argparse.ArgumentParser) -> None:
    first = parser.add_argument_group("Phase 1: truncated spectra")
    first.add_argument("--spectral-reg", action="store_true", help="on")
    first.add_argument("--tau-init", type=float, **_default("tau_init"))
    first.add_argument("--tau-final", type=float, **_default("tau_final"))
    first.add_argument("--truncation-epochs", type=int, metavar="T", **_default("truncation_epochs"))
    first.add_argument(
        "--ramp-epochs",
        type=int,
        metavar="R",
        **_default("ramp_epochs", "the last epochs before T, without a jump at T"),
    )

    second = parser.add_argument_group("Phase 2: scales kept apart")
    second.add_argument("--phase2-reg", action="store_true", help="on")
    second.add_argument(
        "--phase2-start", type=int, metavar="EPOCH", help="first epoch (default: T with Phase 1, else 100)"
    )
    second.add_argument("--delta", type=float, **_default("delta"))
    second.add_argument("--distance", choices=("mse", "l1", "cosine"), **_default("distance"))
    second.add_argument("--normalise", action="store_true", help="bound the penalty from below")


def _default(name: str, about: str = "") -> dict[str, Any]:
    """Return the arguments `default` and `help` of a flag."""
    return {"default": DEFAULTS[name], "help": f"{about} (default: {DEFAULTS[name]})".strip()}
