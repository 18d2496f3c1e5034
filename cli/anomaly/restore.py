"""The subcommand anomaly restore."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..options import add_command
from ..start_up import start_torch
from .map_run import chosen_checkpoint, map_options, run_maps
from .packages import needs_packages

if TYPE_CHECKING:
    from ...systems.anomaly.data.volume import Volume
    from ...systems.anomaly.maps.mapper import Mapper


def add_commands(commands: Any) -> None:
    """Declare restore."""
    restore = add_command(
        commands, "restore", _restore, "what differs from the nearest normal volume, which the engine's loop finds"
    )
    map_options(restore)
    restore.add_argument(
        "--prior",
        default="code-prior",
        metavar="NAME",
        help="of normality: nearest-code, mixture, code-prior, or none (default: code-prior)",
    )
    restore.add_argument(
        "--prior-weight",
        type=float,
        metavar="λ",
        help="of the prior beside the data term (default: measured, by prior)",
    )
    restore.add_argument(
        "--normal",
        type=Path,
        metavar="VOLUMES",
        help="a folder whose normal volumes the priors are fitted to (default: the model's own, where it brings them)",
    )
    restore.add_argument(
        "--preset", default="balanced", metavar="fast|balanced|best", help="how much work (default: balanced)"
    )
    restore.add_argument("--iterations", type=int, metavar="N", help="at most, per volume (default: the preset's)")
    restore.add_argument("--loss", metavar="NAME", help="the data term, such as l1 or huber (default: l1)")
    restore.add_argument(
        "--precision", metavar="auto|fp32|bf16", help="of the decoder (default: auto, bf16 where the processor has it)"
    )


def _restore(options: argparse.Namespace) -> int:
    """Run `relatent anomaly restore`, and return its exit status."""
    checkpoint = chosen_checkpoint(options)
    start_torch()
    with needs_packages():
        from ...systems.anomaly.restoration.fitted import fitted_normality
        from ...systems.anomaly.restoration.mapper import RestorationMapper
        from ...systems.anomaly.restoration.settings import RestorationSettings, restoration_config

        given = {"iterations": options.iterations, "loss_function": options.loss, "precision": options.precision}
        config = restoration_config(
            options.preset, **{name: value for name, value in given.items() if value is not None}
        )
        settings = RestorationSettings(options.prior, options.prior_weight, options.batch_size, config)

        def make(volumes: "list[Volume]", side: int) -> "Mapper":
            normality = None
            if options.normal is not None:
                normality = fitted_normality(options.folder, checkpoint, options.normal, volumes, side)
            return RestorationMapper(checkpoint, settings, normality, side, options.device)

        return run_maps(options, checkpoint, make)
