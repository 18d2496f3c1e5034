"""The subcommand spectrogram check."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..exit_status import DONE, SOME_FAILED
from ..options import add_command, device_option
from ..start_up import start_torch
from ..text import print_json


def add_commands(commands: Any) -> None:
    """Declare check."""
    check = add_command(
        commands, "check", _check, "does a VAE hold together, does it fit a diffusion model, and is it good enough"
    )
    check.add_argument(
        "--model_path", "--model-path", required=True, type=Path, metavar="DIR", help="what train-vae wrote"
    )
    check.add_argument(
        "--data_dir", "--data-dir", type=Path, metavar="DIR", help="spectrograms, for figures on held-out recordings"
    )
    check.add_argument(
        "--diffusion_dir", "--diffusion-dir", type=Path, metavar="DIR", help="a diffusion model that must fit"
    )
    device_option(check)


def _check(options: argparse.Namespace) -> int:
    """Run `relatent spectrogram check`, and return its exit status."""
    start_torch()
    from ...systems.spectrogram.vae.check import check_vae

    checks = []
    for check in check_vae(options.model_path, options.data_dir, options.diffusion_dir, options.device):
        checks.append(check)
        if not options.json:
            verdict = {True: "holds", False: "fails", None: "unknown"}[check.ok]
            print(f"{verdict:7}  {check.name:24}  {check.detail}", flush=True)
    ok = all(check.ok is not False for check in checks)
    if options.json:
        print_json({"ok": ok, "checks": [asdict(check) for check in checks]})
    return DONE if ok else SOME_FAILED
