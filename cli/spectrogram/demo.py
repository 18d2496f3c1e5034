"""The subcommand spectrogram demo."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..exit_status import DONE
from ..options import add_command
from ..start_up import start_torch
from ..text import print_result
from .packages import needs_packages


def add_commands(commands: Any) -> None:
    """Declare demo."""
    demo = add_command(
        commands, "demo", _demo, "everything on a few simulated walkers, on two cores in under a quarter of an hour"
    )
    demo.add_argument(
        "folder", metavar="OUT", type=Path, help="for spectrograms, models and the page; an unfinished demo goes on"
    )


def _demo(options: argparse.Namespace) -> int:
    """Run `relatent spectrogram demo`, and return its exit status."""
    start_torch()
    with needs_packages():
        from ...systems.spectrogram.demo import run_demo

        result = run_demo(options.folder, on_step=lambda line: print(line, file=sys.stderr, flush=True))
    print_result(result, _lines(result), options.json)
    return DONE


def _lines(result: dict[str, Any]) -> Iterator[str]:
    sizes, vae = result["settings"], result["vae"]
    yield (
        f"{sizes['users']} simulated walkers, {sizes['recordings'] * sizes['windows']} spectrograms of {sizes['side']}² each, "
        f"{result['seconds']:.0f} s"
    )
    yield f"VAE: PSNR {vae['psnr']:.2f} dB, SSIM {vae['ssim']:.3f} on held-out recordings"
    yield f"{result['samples']} generated spectrograms, guidance {sizes['guidance_scale']:g}"
    for score in result["scores"]:
        real = "" if score["real"] is None else f", held-out recordings {score['real']:.3g}"
        yield f"{score['label']}: {score['value']:.3g}{real}"
    if not result["judge"]["holds"]:
        yield "The classifier does not hold on held-out recordings: it is no judge."
    yield f"{result['targets']['hold']} of {sum(result['targets'].values())} targets hold; look at {result['report']}"
