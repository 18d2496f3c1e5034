"""The subcommand spectrogram generate."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..exit_status import DONE
from ..options import add_command, device_option
from ..start_up import start_torch
from ..text import print_result
from .packages import needs_packages
from .progress import steps_shown
from .train import option

EXAMPLES = """examples:
  relatent spectrogram generate --model_dir model --output_dir samples --samples_per_user 50
  relatent spectrogram generate --model_dir model --output_dir samples --user_ids 1 5 9 --guidance_scale 3

The same command again goes on where it was stopped; with more samples or users it adds to what is there. Every option may be
written with dashes, too.
"""


def add_commands(commands: Any) -> None:
    """Declare generate."""
    parser = add_command(
        commands,
        "generate",
        _generate,
        "spectrograms of users, from a trained model",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option(parser, "model_dir", type=Path, required=True, metavar="DIR", help="of train, or its folder best or joint")
    option(parser, "output_dir", type=Path, required=True, metavar="DIR", help="the folders ID_1, ID_2, … go here")
    option(parser, "samples_per_user", type=int, default=10, metavar="N", help="(default: 10)")
    option(parser, "user_ids", type=int, nargs="+", metavar="N", help="the N of ID_N (default: all users of the model)")
    option(
        parser,
        "guidance_scale",
        type=float,
        metavar="F",
        help="1: the condition alone; above: more of what tells users apart (default: --condition_scale of the training)",
    )
    option(
        parser,
        "classifier_scale",
        type=float,
        default=0.0,
        metavar="F",
        help="of the gradient of the model's own classifier, see train --classifier_steps (default: 0, none)",
    )
    option(parser, "num_inference_steps", type=int, default=50, metavar="N", help="of DDIM (default: 50)")
    option(parser, "vae_dir", type=Path, metavar="DIR", help="a VAE in place of the model's own")
    option(parser, "batch_size", type=int, default=16, metavar="N", help="samples at once (default: 16)")
    option(parser, "seed", type=int, default=0, metavar="N", help="(default: 0)")
    option(
        parser,
        "use_ema",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the averaged weights, where the model has some (default: on)",
    )
    device_option(parser)


def _generate(options: argparse.Namespace) -> int:
    """Run `relatent spectrogram generate`, and return its exit status."""
    start_torch()
    with needs_packages():
        from ...systems.spectrogram.diffusion.generate import GenerationSettings, generate
    settings = GenerationSettings(
        options.guidance_scale, options.num_inference_steps, options.seed, options.use_ema, options.classifier_scale
    )
    with steps_shown("sample") as (_, move):
        result = generate(
            options.model_dir,
            options.output_dir,
            options.samples_per_user,
            options.user_ids,
            settings,
            options.batch_size,
            options.device,
            options.vae_dir,
            on_step=move,
        )
    result = {"output_dir": str(options.output_dir), **result}
    print_result(result, _lines(result), options.json)
    return DONE


def _lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield what generate prints."""
    yield f"{result['output_dir']}: {result['samples']} generated spectrograms, {result['new']} of them now"
    if result["simulated"]:
        yield "the model was trained on simulated spectrograms"
    led = f", classifier {result['classifier_scale']:g}" if result["classifier_scale"] else ""
    yield f"guidance {result['guidance_scale']:g}{led}, {result['num_inference_steps']} steps, seed {result['seed']}"
