"""The subcommand spectrogram train."""

import argparse
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...engine.errors import UsageError
from ...systems.spectrogram.diffusion.settings import (  # does not import torch
    PRECISIONS,
    PREDICTIONS,
    RECIPES,
    SCHEDULERS,
    DiffusionSettings,
    recipe_settings,
)
from ..exit_status import DONE
from ..options import add_command
from ..start_up import start_torch
from ..text import print_result
from .packages import needs_packages
from .progress import is_main_process, steps_shown

EXAMPLES = """examples:
  relatent spectrogram train --data_dir spectrograms --vae_dir vae --output_dir model
  relatent spectrogram train --data_dir spectrograms --vae_dir vae --output_dir model --recipe small     on a processor
  accelerate launch --num_processes 2 -m relatent spectrogram train --data_dir … --vae_dir … --output_dir …    on two GPUs
  relatent spectrogram train --dataset out/dataset.h5 --column initial_latents --output_dir model        on given latents

The same command again goes on where it was stopped. Every option may be written with dashes, too. docs/spectrogram_diffusion.md
says what a recipe has in place of the defaults, which an option given here replaces.
"""
# help and what argparse is told; in the order of `DiffusionSettings`
OPTIONS: dict[str, dict[str, Any]] = {
    "block_out_channels": dict(type=int, nargs="+", metavar="C", help="channels of each level, each half as large"),
    "layers_per_block": dict(type=int, metavar="N"),
    "heads": dict(type=int, metavar="N", help="of the attention"),
    "cross_attention_dim": dict(type=int, metavar="N", help="width of the user's token"),
    "max_steps": dict(type=int, metavar="N", help="updates of the whole training"),
    "batch_size": dict(type=int, metavar="N", help="latents in memory at once"),
    "gradient_accumulation_steps": dict(type=int, metavar="N", help="batches of an update"),
    "learning_rate": dict(type=float, metavar="F", help="of AdamW"),
    "lr_scheduler": dict(choices=SCHEDULERS),
    "lr_warmup_steps": dict(type=int, metavar="N", help="updates over which the rate rises"),
    "weight_decay": dict(type=float, metavar="F"),
    "max_grad_norm": dict(type=float, metavar="F"),
    "prediction_type": dict(choices=PREDICTIONS, help="what the network returns"),
    "condition_dropout": dict(type=float, metavar="F", help="probability that the null token takes a user's place"),
    "mixed_precision": dict(choices=PRECISIONS),
    "gradient_checkpointing": dict(action=argparse.BooleanOptionalAction, help="less memory, more time"),
    "use_ema": dict(
        action=argparse.BooleanOptionalAction, help="keep the running mean of the weights, and sample from it"
    ),
    "ema_decay": dict(type=float, metavar="F"),
    "subtract_mean": dict(
        action=argparse.BooleanOptionalAction, help="of the latents' channels, before they are divided by σ"
    ),
    "condition_scale": dict(
        type=float, metavar="F", help="of the guidance in the sample grids, and generate's default"
    ),
    "seed": dict(type=int, metavar="N"),
    "device": dict(metavar="auto|cpu|cuda|cuda:1|mps"),
    "save_every": dict(type=int, metavar="N", help="updates between checkpoints"),
    "eval_every": dict(type=int, metavar="N", help="updates between validations, each with a grid of samples"),
    "log_every": dict(type=int, metavar="N", help="updates between log entries"),
}


def add_commands(commands: Any) -> None:
    """Declare train."""
    train = add_command(
        commands,
        "train",
        _train,
        "the diffusion model, on the latents of a VAE or of a dataset; goes on where it was stopped",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option(train, "data_dir", type=Path, metavar="DIR", help="folder with ID_1, ID_2, …; needs --vae_dir")
    option(train, "vae_dir", type=Path, metavar="DIR", help="of train-vae; with --dataset it decodes the sample grids")
    option(
        train,
        "output_dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="the model, the checkpoint and the logs go here",
    )
    option(
        train, "dataset", type=Path, metavar="FILE", help="dataset.h5 of `relatent optimize`, in place of --data_dir"
    )
    option(
        train,
        "column",
        choices=("initial_latents", "optimized_latents"),
        help="of --dataset (default: optimized_latents)",
    )
    option(train, "recipe", choices=tuple(RECIPES), default="standard", help="settings to start from")
    option(train, "resolution", type=int, metavar="N", help="side of the pictures, pixels: the VAE's (default)")
    option(train, "num_users", type=int, metavar="N", help="users, from ID_1 on (default: all)")
    option(train, "joint_steps", type=int, metavar="N", help="updates of VAE and UNet together at the end (default: 0)")
    option(
        train,
        "classifier_steps",
        type=int,
        metavar="N",
        help="updates of a classifier that guides samples, see generate --classifier_scale (default: 0, none)",
    )
    defaults = {field.name: field.default for field in fields(DiffusionSettings)}
    for name, declared in OPTIONS.items():
        about = f"{declared.get('help', '')} (default: {_text(defaults[name])})".lstrip()
        option(train, name, **{**declared, "help": about})


def option(parser: argparse.ArgumentParser, name: str, **declared: Any) -> None:
    """Declare an option in both spellings, with underscores and with dashes; None where it is not given."""
    spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
    parser.add_argument(*spellings, **{"default": None, **declared})


def _text(default: Any) -> str:
    """A default as it is typed."""
    if isinstance(default, tuple):
        return " ".join(map(str, default))
    if isinstance(default, bool):
        return "on" if default else "off"
    return str(default)


def _train(options: argparse.Namespace) -> int:
    """Run `relatent spectrogram train`, and return its exit status."""
    given = {name: value for name in OPTIONS if (value := getattr(options, name)) is not None}
    if "block_out_channels" in given:  # attention at all levels but the first and largest, or at the only one
        levels = len(given["block_out_channels"])
        given["attention"] = (levels == 1, *(True,) * (levels - 1))
    recipe_settings(options.recipe, **given)  # an unusable one is refused before torch is imported
    if (options.data_dir is None) == (options.dataset is None):
        raise UsageError("give --data_dir with --vae_dir, or --dataset")
    if options.data_dir is not None and options.vae_dir is None:
        raise UsageError("--data_dir needs --vae_dir: `relatent spectrogram train-vae` makes one")
    if options.dataset is None and options.column is not None:
        raise UsageError("--column is of --dataset; leave it out with --data_dir")
    if options.dataset is not None and (options.resolution is not None or options.joint_steps):
        raise UsageError("--resolution and --joint_steps need pictures: give --data_dir, not --dataset")
    start_torch()
    with needs_packages():
        from ...systems.spectrogram.diffusion.run import train_on_dataset, train_on_spectrograms
    with steps_shown("step") as (tell, move):
        given |= {"classifier_steps": options.classifier_steps or 0}
        given |= {"recipe": options.recipe, "num_users": options.num_users, "progress": tell, "on_step": move}
        if options.dataset is not None:
            column = options.column or "optimized_latents"
            record = train_on_dataset(options.dataset, options.output_dir, column, options.vae_dir, **given)
        else:
            record = train_on_spectrograms(
                options.data_dir,
                options.vae_dir,
                options.output_dir,
                resolution=options.resolution,
                joint_steps=options.joint_steps or 0,
                **given,
            )
    if is_main_process():
        print_result(
            {"output_dir": str(options.output_dir), **record}, _lines(options.output_dir, record), options.json
        )
    return DONE


def _lines(folder: Path, record: dict[str, Any]) -> Iterator[str]:
    """Yield what train prints."""
    kind = "simulated held-out recordings" if record["simulated"] else "held-out recordings"
    yield f"{folder}: {record['parameters']:,} parameters, {record['steps']} steps"
    yield f"loss {record['validation_loss']:.4f} on {record['latents']['held_out']} latents of {kind}"
    yield f"the least was {record['best']['validation_loss']:.4f} at step {record['best']['step']}: {folder / 'best'}"
    if record["skipped"]:
        yield f"{record['skipped']} updates were left out: their gradient was not finite"
    if classifier := record.get("classifier"):
        yield f"classifier for guidance: {classifier['accuracy_little_noise']:.1%} right on held-out latents of little noise"
    if joint := record.get("joint"):
        before, after = joint["before"], joint["after"]
        yield f"trained jointly, {folder / 'joint'}: PSNR {before['psnr']:.2f} → {after['psnr']:.2f} dB, loss "
        yield f"{before['validation_loss']:.4f} → {after['validation_loss']:.4f}"
