"""The subcommand spectrogram train-vae."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from ...systems.spectrogram.vae.settings import (  # does not import torch
    PRECISIONS,
    RECIPES,
    SCHEDULERS,
    VAE,
    VAESettings,
    recipe_settings,
)
from ..exit_status import DONE
from ..options import add_command
from ..start_up import start_torch
from ..text import print_result
from .packages import needs_packages
from .progress import is_main_process

EXAMPLES = """examples:
  relatent spectrogram train-vae --data_dir spectrograms --output_dir model
  relatent spectrogram train-vae --data_dir spectrograms --output_dir model --recipe small      on a processor
  relatent spectrogram train-vae --data_dir spectrograms --output_dir model --use_ema --use_lpips --mixed_precision bf16

The same command again goes on where it was stopped. Every option may be written with dashes, too. docs/spectrogram_vae.md says
what a recipe has in place of the defaults, which an option given here replaces.
"""
# help and what argparse is told; in the order of `VAESettings`
OPTIONS: dict[str, dict[str, Any]] = {
    "data_dir": dict(required=True, metavar="DIR", help="folder with ID_1, ID_2, …"),
    "output_dir": dict(required=True, metavar="DIR", help="the model, the checkpoint and the logs go here"),
    "resolution": dict(type=int, metavar="N", help="side of the pictures, pixels"),
    "num_users": dict(type=int, metavar="N", help="users, from ID_1 on"),
    "block_out_channels": dict(type=int, nargs="+", metavar="C", help="channels of each level, each half as large"),
    "layers_per_block": dict(type=int, metavar="N"),
    "latent_channels": dict(type=int, metavar="N"),
    "batch_size": dict(type=int, metavar="N", help="pictures in memory at once"),
    "gradient_accumulation_steps": dict(type=int, metavar="N", help="batches of an update"),
    "epochs": dict(type=int, metavar="N"),
    "max_steps": dict(type=int, metavar="N", help="end after so many updates"),
    "learning_rate": dict(type=float, metavar="F", help="of AdamW"),
    "lr_scheduler": dict(choices=SCHEDULERS),
    "lr_warmup_steps": dict(type=int, metavar="N", help="updates over which the rate rises"),
    "weight_decay": dict(type=float, metavar="F"),
    "max_grad_norm": dict(type=float, metavar="F"),
    "kl_weight": dict(type=float, metavar="F", help="of the KL divergence in nats per picture"),
    "use_lpips": dict(action=argparse.BooleanOptionalAction, help="add LPIPS to the loss"),
    "lpips_weight": dict(type=float, metavar="F"),
    "fft_weight": dict(type=float, metavar="F", help="of the squared error of Fourier magnitudes; 0: off"),
    "use_ema": dict(action=argparse.BooleanOptionalAction, help="keep the running mean of the weights"),
    "ema_decay": dict(type=float, metavar="F"),
    "mixed_precision": dict(choices=PRECISIONS),
    "gradient_checkpointing": dict(action=argparse.BooleanOptionalAction, help="less memory, more time"),
    "held_out": dict(type=float, metavar="F", help="part of each user's recordings that is not trained on"),
    "eval_images": dict(type=int, metavar="N", help="held-out pictures that every epoch is judged by"),
    "seed": dict(type=int, metavar="N"),
    "device": dict(metavar="auto|cpu|cuda|cuda:1|mps"),
    "num_workers": dict(type=int, metavar="N", help="processes that read pictures"),
    "save_every": dict(type=int, metavar="N", help="updates between checkpoints"),
    "log_every": dict(type=int, metavar="N", help="updates between log entries"),
}


def add_commands(commands: Any) -> None:
    """Declare train-vae."""
    train = add_command(
        commands,
        "train-vae",
        _train,
        "the VAE that the diffusion model works in; goes on where it was stopped",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument("--recipe", choices=tuple(RECIPES), default="standard", help="settings to start from")
    defaults = {field.name: field.default for field in fields(VAESettings)}
    for name, declared in OPTIONS.items():
        spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
        about = declared.get("help", "")
        if not declared.get("required"):
            about = f"{about} (default: {_text(defaults[name])})".lstrip()
        train.add_argument(*spellings, **{"default": None, **declared, "help": about})


def _text(default: Any) -> str:
    """A default as it is typed."""
    if isinstance(default, tuple):
        return " ".join(map(str, default))
    if default is None or isinstance(default, bool):
        return {None: "none", True: "on", False: "off"}[default]
    return str(default)


def _train(options: argparse.Namespace) -> int:
    """Run `relatent spectrogram train-vae`, and return its exit status."""
    given = {name: value for name in OPTIONS if (value := getattr(options, name)) is not None}
    settings = recipe_settings(options.recipe, **given)
    start_torch()
    with needs_packages():
        from ...systems.spectrogram.vae.training import train_vae
    record = train_vae(settings, lambda line: print(line, file=sys.stderr, flush=True))
    if is_main_process():
        print_result({"output_dir": settings.output_dir, **record}, _lines(settings, record), options.json)
    return DONE


def _lines(settings: VAESettings, record: dict[str, Any]) -> Iterator[str]:
    """Yield what train-vae prints."""
    kind = "simulated held-out recordings" if record["simulated"] else "held-out recordings"
    yield f"{settings.output_dir}/{VAE}: step {record['best_step']} of {record['steps']}, the best on {kind}"
    yield f"PSNR {record['psnr']:.2f} dB, SSIM {record['ssim']:.4f} on {record['pictures']['held_out']} pictures of them"
    yield f"latents: σ {record['latent_std']:.4f}, scaling factor {record['scaling_factor']:.4f}"
    if record["skipped"]:
        yield f"{record['skipped']} updates were left out: their gradient was not finite"
