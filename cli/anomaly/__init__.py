"""The subcommands of anomaly maps of volumes. A new subcommand is one file here and one entry in COMMANDS."""

import argparse
from typing import Any

from . import check, demo, detect, evaluate, maps, prepare, report, restore, train

# in the order of `relatent anomaly --help`
COMMANDS = (prepare, train, maps, restore, detect, evaluate, report, check, demo)

EXAMPLES = """examples:
  relatent anomaly demo out/                                 everything on synthetic vertebrae, in minutes
  relatent anomaly prepare scans.csv volumes --folds 5       CT scans with masks to volumes, and folds of their patients
  relatent anomaly train fold_id=1                           a model of normal volumes; goes on where it was stopped
  relatent anomaly map volumes/ maps/ --model last.ckpt      error maps of all volumes, in files; goes on, too
  relatent anomaly restore volumes/ restored/                maps of what differs from the nearest normal volume
  relatent anomaly detect volumes/ found/ --train weak/      a detector from boxes or slices, and its maps
  relatent anomaly evaluate maps/ --validation val_maps/     figures, at thresholds from other volumes
  relatent anomaly report maps/                              a page to look at
  relatent anomaly check                                     does everything work here?

Volumes are files vol_PATIENT_LEVEL.npy in a folder, or an archive .npz of MedMNIST. docs/anomaly.md has the formats and the
figures, docs/anomaly_training.md the training. `relatent anomaly COMMAND --help` lists a command's options.
What it needs comes with: pip install "relatent[anomaly]"
"""


def add_commands(commands: Any) -> None:
    """Declare anomaly and its subcommands."""
    anomaly = commands.add_parser(
        "anomaly",
        help="anomaly maps of 3-D volumes: what a model of normal ones cannot explain",
        description="Anomaly maps of 3-D volumes: what a model of normal ones cannot explain.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own = anomaly.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_commands(own)
