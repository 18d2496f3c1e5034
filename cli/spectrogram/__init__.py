"""The subcommands of spectrograms of walkers. A new subcommand is one file here and one entry in COMMANDS."""

import argparse
from typing import Any

from . import check, demo, generate, simulate, train, train_vae, validate

# in the order of `relatent spectrogram --help`
COMMANDS = (demo, simulate, train_vae, train, generate, validate, check)

EXAMPLES = """examples:
  relatent spectrogram demo out/                             all of the below on eight walkers, small, and a page; goes on, too
  relatent spectrogram simulate data/                        simulated spectrograms of 31 walkers; goes on where it was stopped
  relatent spectrogram train-vae --data_dir data --output_dir vae                 the VAE; goes on, too
  relatent spectrogram train --data_dir data --vae_dir vae --output_dir model     the diffusion model on its latents
  relatent spectrogram generate --model_dir model --output_dir samples            spectrograms of each user
  relatent spectrogram validate --data_dir data --generated_dir samples --output_dir scores    are they any good?
  relatent spectrogram check --model_path vae --data_dir data    is it whole, does it fit, is it good enough?

Spectrograms are pictures in folders ID_1, ID_2, …, one per user. docs/spectrogram.md has the formats, and what the simulator is
and is not. `relatent spectrogram COMMAND --help` lists a command's options.
What it needs comes with: pip install "relatent[spectrogram]"
"""


def add_commands(commands: Any) -> None:
    """Declare spectrogram and its subcommands."""
    spectrogram = commands.add_parser(
        "spectrogram",
        help="micro-Doppler spectrograms of walkers: simulation, and models that are told who walks",
        description="Micro-Doppler spectrograms of walkers: simulation, and models that are told who walks.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own = spectrogram.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_commands(own)
