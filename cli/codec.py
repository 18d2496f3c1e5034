"""The subcommands of the learned image codec: codec compress, decompress, refine, evaluate, train, ablation."""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..systems.codec.training.options import add_training_options  # does not import torch
from .exit_status import DONE
from .options import add_command
from .start_up import start_torch
from .text import print_result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..systems.codec.bitstream.image_codec import ImageCodec

EXAMPLES = """examples:
  relatent codec compress photo.jpg photo.rlc                a photograph to a small file
  relatent codec decompress photo.rlc photo.png              and back; the model is found by the file
  relatent codec compress photo.jpg photo.rlc --quality 3    1: smallest file, 3: best picture (default: 2)
  relatent codec refine photo.jpg photo.rlc                  minutes of optimisation for a smaller, better file
  relatent codec evaluate photos/ --out figures/             rate and quality beside JPEG, JPEG 2000 and WebP

Pictures of any size and every format that Pillow reads; transparency goes over white. decompress writes PNG, BMP, PPM or
TIFF. `relatent codec COMMAND --help` lists a command's options. docs/codec.md has the figures, docs/codec_format.md the bytes,
docs/codec_training.md how models are trained.
The entropy coder comes with: pip install "relatent[codec]"
"""
DEFAULT_QUALITY = 2
SECONDS_BETWEEN_LINES = 10.0  # of progress, where there is no terminal


def add_commands(commands: Any) -> None:
    """Declare codec and its subcommands."""
    codec = commands.add_parser(
        "codec",
        help="a learned image codec: pictures to small files and back",
        description="A learned image codec: pictures to small files and back.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own = codec.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_files(own)
    _add_research(own)


def _add_files(commands: Any) -> None:
    """Declare compress, decompress and refine."""
    compress = add_command(commands, "compress", _compress, "a picture to a file of a few bytes per thousand pixels")
    _image_to_file(compress)
    compress.add_argument(
        "--refine", type=int, metavar="STEPS", help="optimise the latents first, so many steps (default: not at all)"
    )

    decompress = add_command(commands, "decompress", _decompress, "a compressed file back to a picture")
    decompress.add_argument("file", metavar="FILE", type=Path, help="what compress or refine wrote")
    decompress.add_argument("image", metavar="IMAGE", type=Path, help="ends in .png, .bmp, .ppm, .tif or .tiff")
    _model_options(decompress, "default: the one that the file states")
    decompress.add_argument(
        "--max-pixels",
        type=int,
        default=1 << 25,
        metavar="N",
        help="refuse larger pictures, sides rounded up to multiples of 64 (default: 33554432)",
    )
    decompress.add_argument("--force", action="store_true", help="replace IMAGE where it is there already")

    refine = add_command(
        commands, "refine", _refine, "compress, with the latents optimised for this picture: smaller and better, slower"
    )
    _image_to_file(refine)
    refine.add_argument("--steps", type=int, metavar="N", help="gradient steps (default: 200)")
    refine.add_argument(
        "--quantiser",
        metavar="ssl|sga|ste",
        help="what stands for rounding: scaled sigmoid logits, stochastic Gumbel annealing, straight-through (default: ssl)",
    )
    refine.add_argument("--seed", type=int, metavar="N", help="of the quantiser's noise (default: 0)")


def _image_to_file(parser: argparse.ArgumentParser) -> None:
    """Declare IMAGE, FILE, and which model writes it."""
    parser.add_argument("image", metavar="IMAGE", type=Path, help="any picture that Pillow reads")
    parser.add_argument("file", metavar="FILE", type=Path, help="such as photo.rlc; an older one is replaced")
    _model_options(parser, f"default: {DEFAULT_QUALITY}")


def _model_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Declare --quality and --model, of which one may be given."""
    model = parser.add_mutually_exclusive_group()
    model.add_argument(
        "--quality",
        type=int,
        metavar="N",
        help=f"a bundled model: 1 the smallest files, then better pictures ({default})",
    )
    model.add_argument("--model", type=Path, metavar="PATH", help="a model's folder, as train writes it, instead")


def _add_research(commands: Any) -> None:
    """Declare evaluate, train and ablation."""
    evaluate = add_command(
        commands, "evaluate", _evaluate, "rate and distortion on a folder of pictures, beside JPEG, JPEG 2000 and WebP"
    )
    evaluate.add_argument("folder", metavar="FOLDER", type=Path, help="pictures, with those in subfolders")
    evaluate.add_argument(
        "--model",
        type=Path,
        action="append",
        metavar="PATH",
        help="a model's folder, repeatable (default: the bundled)",
    )
    evaluate.add_argument("--references", type=Path, metavar="FOLDER", help="published curves as JSON, drawn dashed")
    evaluate.add_argument(
        "--out", type=Path, default=Path("codec-evaluation"), metavar="DIR", help="(default: codec-evaluation)"
    )
    evaluate.add_argument("--refine", type=int, metavar="STEPS", help="also with latents optimised so many steps")
    evaluate.add_argument("--limit", type=int, metavar="N", help="the first N pictures only")

    add_training_options(add_command(commands, "train", _train, "a model of one's own; goes on where it was stopped"))
    ablation = add_command(commands, "ablation", _ablation, "train with several weights and distances of Phase 2")
    add_training_options(ablation)


def _compress(options: argparse.Namespace) -> int:
    """Run `relatent codec compress`, and return its exit status."""
    return _write_file(options, None if options.refine is None else {"steps": options.refine})


def _refine(options: argparse.Namespace) -> int:
    """Run `relatent codec refine`, and return its exit status."""
    settings = {"steps": options.steps, "quantiser": options.quantiser, "seed": options.seed}
    return _write_file(options, {name: value for name, value in settings.items() if value is not None})


def _write_file(options: argparse.Namespace, refinement: dict[str, Any] | None) -> int:
    """Compress IMAGE to FILE. refinement: the settings that were given; None for none."""
    start_torch()
    from ..systems.codec.bundled import load_codec
    from ..systems.codec.picture_files import compress_file

    quality = None if options.model else _quality(options)
    config = None
    if refinement is not None:
        from ..systems.codec.refinement.config import RefinementConfig

        config = RefinementConfig(**refinement)
    codec = load_codec(_quality(options), options.model)
    with _steps_shown(config.steps if config else 0) as show:
        result = compress_file(options.image, options.file, codec, config, show)
    result["quality"] = quality
    print_result(result, _compressed_lines(result), options.json)
    return DONE


def _compressed_lines(result: dict[str, Any]) -> "Iterator[str]":
    """Yield what compress and refine print."""
    yield (
        f"{result['path']}: {_figures(result)}, {result['width']}×{result['height']} pixels, {result['seconds']:.1f} s"
    )
    if before := result.get("before"):
        change = result["rd_cost"] / before["rd_cost"] - 1
        yield f"not refined: {_figures(before)}; refinement changed the cost by {100 * change:+.1f} %"


def _figures(measured: dict[str, Any]) -> str:
    return (
        f"{measured['bytes']} bytes, {measured['bpp']:.3f} bits per pixel, {measured['psnr']:.2f} dB, "
        f"rate-distortion cost {measured['rd_cost']:.4f}"
    )


def _quality(options: argparse.Namespace) -> int:
    """Return --quality, or its default."""
    return DEFAULT_QUALITY if options.quality is None else options.quality


@contextmanager
def _steps_shown(steps: int) -> "Iterator[Callable[[float], None]]":
    """Yield what shows the fraction of a refinement that is done on stderr: a bar on a terminal, lines elsewhere."""
    if sys.stderr.isatty() and steps:
        from tqdm import tqdm

        with tqdm(total=steps, unit="step", file=sys.stderr, leave=False) as bar:
            yield lambda done: bar.update(round(done * steps) - bar.n) and None
        return
    shown = time.monotonic()

    def show(done: float) -> None:
        nonlocal shown
        if time.monotonic() - shown >= SECONDS_BETWEEN_LINES:
            shown = time.monotonic()
            print(f"refined: {100 * done:.0f} %", file=sys.stderr, flush=True)

    yield show


def _decompress(options: argparse.Namespace) -> int:
    """Run `relatent codec decompress`, and return its exit status."""
    start_torch()
    from ..systems.codec.bundled import load_codec
    from ..systems.codec.picture_files import decompress_file

    given = options.model is not None or options.quality is not None
    codec = load_codec(_quality(options), options.model) if given else None
    result = decompress_file(options.file, options.image, codec, options.max_pixels, options.force)
    line = f"{result['path']}: {result['width']}×{result['height']} pixels from {result['bytes']} bytes, {result['seconds']:.1f} s"
    print_result(result, [line], options.json)
    return DONE


def _evaluate(options: argparse.Namespace) -> int:
    """Run `relatent codec evaluate`, and return its exit status."""
    start_torch()
    from ..systems.codec.bundled import load_codec, qualities
    from ..systems.codec.evaluation.run import run_evaluation

    if options.model:
        codecs = {_name_of(path, options.model): load_codec(model=path) for path in options.model}
    else:
        codecs = {str(quality): load_codec(quality) for quality in qualities()}
    result = run_evaluation(
        options.folder,
        options.out,
        codecs,
        references=options.references,
        refine=None if options.refine is None else _refiner(options.refine),
        limit=options.limit,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print_result(result, [(options.out / "table.md").read_text(encoding="utf-8"), str(options.out)], options.json)
    return DONE


def _name_of(path: Path, paths: list[Path]) -> str:
    """Return what a model is called in tables: its folder's name, with its parent's where names would be the same."""
    same = [other for other in paths if other.resolve().name == path.resolve().name]
    return path.resolve().name if len(same) == 1 else "/".join(path.resolve().parts[-2:])


def _refiner(steps: int) -> Callable[["ImageCodec", Any], Any]:
    """Return the function that `run_evaluation` refines pictures with. Raises UsageError for an unusable number of steps."""
    from ..systems.codec.refinement.config import RefinementConfig
    from ..systems.codec.refinement.refine import refine

    config = RefinementConfig(steps=steps)
    return lambda codec, image: refine(codec, [image], config)[0].encoded


def _train(options: argparse.Namespace) -> int:
    """Run `relatent codec train`, and return its exit status."""
    start_torch()
    from ..systems.codec.training.run import train

    result = train(options)
    print_result(result, [f"{name}: {value}" for name, value in result.items()], options.json)
    return DONE


def _ablation(options: argparse.Namespace) -> int:
    """Run `relatent codec ablation`, and return its exit status."""
    start_torch()
    from ..systems.codec.training.ablation import run, table

    result = run(options)
    print_result(result, table(result), options.json)
    return DONE
