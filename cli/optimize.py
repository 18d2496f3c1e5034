"""The subcommands that optimise latents: demo, optimize, resume."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ..exporters.base.registry import FORMATS
from .exit_status import DONE, SOME_FAILED
from .options import (
    add_command,
    autoencoder_options,
    device_option,
    execution_options,
    execution_settings,
    out_argument,
    preset_options,
    recorded_device_option,
    seed,
    whole_number,
)
from .start_up import start_torch
from .text import nothing_improved, print_result, summary


def add_commands(commands: Any) -> None:
    """Declare demo, optimize and resume."""
    demo = add_command(commands, "demo", _demo, "four photographs through the bundled autoencoder; needs no network")
    out_argument(demo, "folder for the dataset")
    preset_options(demo)

    optimize = add_command(commands, "optimize", _optimize, "pictures in, a dataset of optimised latents out")
    optimize.add_argument(
        "input", metavar="INPUT", help="an image, a folder (train/ val/ test/ become splits), or a list of paths"
    )
    out_argument(optimize, "folder for the dataset; goes on with this run if it is there")
    autoencoder_options(optimize)
    _fitting_options(optimize)
    preset_options(optimize)
    _objective_options(optimize)
    _engine_options(optimize)
    _dataset_options(optimize)
    execution_options(optimize)
    optimize.add_argument("--config", type=Path, metavar="FILE", help="TOML or JSON of settings; options above win")

    resume = add_command(
        commands, "resume", _resume, "go on with a run that stopped, with its own recorded configuration"
    )
    out_argument(resume)
    resume.add_argument("--retry-failed", action="store_true", help="take up the pictures that failed, too")
    resume.add_argument("--batch-size", metavar="N|auto", help="pictures at once (default: as the run began)")
    recorded_device_option(resume)
    execution_options(resume)


def _fitting_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that give pictures their size."""
    parser.add_argument("--size", metavar="N|WxH", help="of every picture, in pixels (default: the VAE's own)")
    parser.add_argument(
        "--buckets", metavar="TRAINER[:RESO]", help="the size that a trainer gives each picture, such as sd-scripts:512"
    )
    parser.add_argument("--native", action="store_true", help="each picture's own size, to the nearest latent cell")
    parser.add_argument("--max-pixels", type=int, metavar="N", help="with --native: most pixels (default: 4194304)")
    parser.add_argument(
        "--fit", default="crop", metavar="crop|pad|none", help="how pictures get that size (default: crop)"
    )
    parser.add_argument(
        "--background", default="white", metavar="COLOUR", help="behind transparency and padding (default: white)"
    )
    parser.add_argument(
        "--colour",
        default="srgb",
        metavar="srgb|as-is",
        help="srgb: converted from the space that each file states; as-is: as stored, which is what most trainers see",
    )


def _objective_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the objective and of the stopping criteria."""
    parser.add_argument(
        "--learning-rate", type=float, metavar="F", help="in the latent's unit (default: relative to its spread)"
    )
    parser.add_argument(
        "--loss",
        metavar="EXPR",
        help="mse, l1, huber, charbonnier, psnr, ssim, ms_ssim, improved_ssim, lpips, fft, or a sum such as "
        "'mse + 0.1*ssim(window=7, sigma=1.0)' (default: mse)",
    )
    parser.add_argument(
        "--regularise",
        metavar="EXPR",
        help="keeps the latent near the encoder's: prior, tv, l2_to_init, spectrum, or a sum such as '0.1*l2_to_init + 0.01*tv'",
    )
    parser.add_argument(
        "--masks",
        type=Path,
        metavar="FOLDER",
        help="a greyscale image per picture, under the same path: white counts, black is ignored",
    )
    parser.add_argument("--target-gain", type=float, metavar="DB", help="stop each picture when it has gained so much")
    parser.add_argument(
        "--target-psnr", type=float, metavar="DB", help="stop each picture at this PSNR; with both targets, at either"
    )


def _engine_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the engine: batch size, precision, memory, compilation and device."""
    parser.add_argument("--batch-size", default="auto", metavar="N|auto", help="pictures at once (default: auto)")
    parser.add_argument("--precision", metavar="auto|fp32|bf16|fp16", help="of the decoder in the loop (default: auto)")
    parser.add_argument(
        "--start",
        metavar="encoder|tuned|FILE",
        help="where the iterations start: the encoder's latents, or those of tune-encoder's (default: encoder)",
    )
    parser.add_argument(
        "--recompute", action="store_true", default=None, help="half the memory, for a second forward pass"
    )
    parser.add_argument(
        "--tile", type=int, metavar="N", help="optimise in overlapping tiles of N pixels; their seams are measured"
    )
    parser.add_argument("--compile", metavar="auto|on|off", help="compile the iteration (default: on CUDA)")
    device_option(parser)


def _dataset_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that select the pictures of the dataset and how it is written."""
    parser.add_argument("--limit", type=int, metavar="N", help="pictures per split")
    parser.add_argument("--add", action="store_true", help="add the pictures that the run in OUT does not have yet")
    parser.add_argument(
        "--format", action="append", metavar="NAME", help=f"repeatable (default: hdf5): {', '.join(FORMATS)}"
    )
    parser.add_argument("--no-images", action="store_true", help="keep latents only; png and repa need the pictures")
    parser.add_argument(
        "--flip",
        action="store_true",
        help="optimise each picture mirrored left-right too; mar and lightningdit need it",
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="torch's seed, recorded (default: 0)")
    parser.add_argument(
        "--shard-size", type=int, metavar="N", help="pictures finished together (default: 1 %% of them, 32 to 2048)"
    )
    parser.add_argument(
        "--single-file", action="store_true", help="dataset.h5 with everything in it, without the shards"
    )


def _demo(options: argparse.Namespace) -> int:
    """Run `relatent demo`, and return its exit status."""
    start_torch()
    import shutil
    import tempfile

    from ..engine.inputs.sample_photographs import photographs
    from ..engine.optimization.presets import preset
    from ..factory.api import optimize_directory

    config = preset(options.preset, **_given(iterations=options.iterations))
    with tempfile.TemporaryDirectory() as folder:
        for path in photographs():
            shutil.copy(path, folder)
        run = optimize_directory(
            folder,
            options.out,
            "tiny",
            config=config,
            preset=options.preset,
            formats=["hdf5", "png", "pt"],
            progress=True,
        )
    return _end(run, options)


def _optimize(options: argparse.Namespace) -> int:
    """Run `relatent optimize`, and return its exit status."""
    start_torch()
    from ..engine.inputs.sizes import parse_size
    from ..engine.optimization.config import read_settings
    from ..engine.optimization.presets import preset
    from ..factory.api import optimize_directory

    overrides = _given(
        iterations=options.iterations,
        learning_rate=options.learning_rate,
        loss_function=options.loss,
        regularisers=options.regularise,
        target_gain=options.target_gain,
        target_psnr=options.target_psnr,
        precision=options.precision,
        start=options.start,
        compile=options.compile,
        recompute=options.recompute,
        tile=options.tile,
    )
    config = preset(options.preset, **((read_settings(options.config) if options.config else {}) | overrides))
    run = optimize_directory(
        options.input,
        options.out,
        options.vae,
        config=config,
        preset=options.preset,
        formats=options.format or ["hdf5"],
        weights=options.weights,
        device=options.device,
        size=None if options.size is None else parse_size(options.size),
        buckets=options.buckets,
        native=options.native,
        max_pixels=options.max_pixels,
        fit=options.fit,
        background=options.background,
        colour=options.colour,
        masks=options.masks,
        batch_size=None if options.batch_size == "auto" else whole_number("--batch-size", options.batch_size),
        limit=options.limit,
        keep_images=not options.no_images,
        flip=options.flip,
        seed=options.seed,
        shard_size=options.shard_size,
        single_file=options.single_file,
        add=options.add,
        **execution_settings(options),
    )
    return _end(run, options)


def _resume(options: argparse.Namespace) -> int:
    """Run `relatent resume`, and return its exit status."""
    start_torch()
    from ..factory.api import resume_directory

    run = resume_directory(
        options.out,
        retry_failed=options.retry_failed,
        batch_size=options.batch_size and _batch_size(options.batch_size),
        device=options.device,
        **execution_settings(options),
    )
    return _end(run, options)


def _batch_size(text: str) -> int | str:
    """The value of --batch-size. Raises `UsageError` unless it is a whole number or auto."""
    return text if text == "auto" else whole_number("--batch-size", text)


def _given(**settings: Any) -> dict[str, Any]:
    """Return the settings whose option was given on the command line."""
    return {name: value for name, value in settings.items() if value is not None}


def _end(run: dict[str, Any], options: argparse.Namespace) -> int:
    """Print the result of a run, and return its exit status."""
    print_result(run, summary(run, options.out), options.json)
    if line := nothing_improved(run, options.out):
        print(f"relatent: {line}", file=sys.stderr)
    return SOME_FAILED if line or run["counts"]["failed"] else DONE
