"""The subcommands for autoencoders and for this machine: export-onnx, bench, models, doctor."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .exit_status import DONE, SOME_FAILED
from .options import add_command, autoencoder_options, device_option
from .text import print_result


def add_commands(commands: Any) -> None:
    """Declare export-onnx, bench, models and doctor."""
    onnx = add_command(
        commands, "export-onnx", _export_onnx, "decoder and encoder as ONNX, checked against onnxruntime"
    )
    autoencoder_options(onnx)
    onnx.add_argument("file", metavar="FILE.onnx", type=Path)
    onnx.add_argument("--size", type=int, metavar="N", help="side of the picture in pixels (default: the VAE's own)")

    bench = add_command(commands, "bench", _bench, "what a GPU reaches, in sections: docs/gpu.md; minutes")
    bench.add_argument(
        "--out", type=Path, default=Path("bench"), metavar="DIR", help="where the JSON files go (default: bench)"
    )
    bench.add_argument("--minutes", type=float, default=8.0, metavar="N", help="stop after about so long (default: 8)")
    device_option(bench, "auto|cpu|cuda|cuda:1")
    bench.add_argument("--small", action="store_true", help="tiny sizes: does it run?")

    add_command(commands, "models", _models, "the autoencoders that can be loaded by name")
    add_command(commands, "doctor", _doctor, "what this machine can do, and why a fast path is off")


def _export_onnx(options: argparse.Namespace) -> int:
    """Run `relatent export-onnx`, and return its exit status."""
    from ..engine.autoencoders.loading import load_autoencoder
    from ..exporters.formats.onnx import export_onnx

    autoencoder = load_autoencoder(options.vae, weights=options.weights, device="cpu")
    result = export_onnx(autoencoder, options.file, options.size)
    lines = [
        f"{part}: {result[part]['path']}, within {result[part]['largest_difference']:.1e} of torch"
        for part in ("decoder", "encoder")
        if part in result
    ]
    print_result(result, lines, options.json)
    return DONE


def _bench(options: argparse.Namespace) -> int:
    """Run `relatent bench`, and return its exit status."""
    import logging

    from ..benchmarks.gpu.command import as_text, run

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    found = run(options.out, options.device, 60.0 * options.minutes, options.small)
    print_result(found | {"path": str(options.out)}, [as_text(found), str(options.out)], options.json)
    return SOME_FAILED if found["errors"] else DONE


def _models(options: argparse.Namespace) -> int:
    """Run `relatent models`, and return its exit status."""
    from ..engine.autoencoders.catalogue import CATALOGUE

    print_result({name: vars(entry) for name, entry in CATALOGUE.items()}, _models_table(), options.json)
    return DONE


def _models_table() -> Iterator[str]:
    """Yield the lines of the table of autoencoders."""
    from ..engine.autoencoders.catalogue import CATALOGUE

    yield f"{'name':20}{'channels':>9}{'factor':>8}{'size':>7}{'TFLOP':>8}  repository, note"
    for entry in CATALOGUE.values():
        where = entry.repository or "inside this package"
        cost = "" if entry.tflop is None else f"{entry.tflop:.2f}"
        sizes = f"{entry.latent_channels:>9}{entry.downscale_factor:>8}{entry.native_size:>7}{cost:>8}"
        yield f"{entry.name:20}{sizes}  {where}: {entry.note}"
    yield "TFLOP: forward, and backward to the latent, of a picture of 512x512."
    yield (
        "Also: a folder of diffusers or a pipeline's, a checkpoint of one file, or owner/name on the hub (--vae PATH), and any "
        "decoder module in Python; docs/autoencoders.md lists the classes."
    )


def _doctor(options: argparse.Namespace) -> int:
    """Run `relatent doctor`, and return its exit status."""
    from ..engine.runtime.doctor import examine

    findings = examine()
    lines = [f"{name:18}{value}" for name, value in findings["facts"].items()]
    lines += [
        f"{name:18}{'on ' if finding['on'] else 'off'}  {finding['why']}" for name, finding in findings["paths"].items()
    ]
    print_result(findings, lines, options.json)
    return DONE
