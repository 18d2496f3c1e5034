"""An evaluation written to a folder."""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import features
from torch import Tensor

from ....engine.inputs.sources import safe_name
from ....engine.runtime.atomic import atomic_path, write_json
from ....engine.runtime.device import describe_device
from ..bitstream.image_codec import Encoded, ImageCodec
from .classic import CLASSICS
from .evaluate import evaluate
from .markdown_tables import markdown_tables
from .pictures import find_pictures, read_picture
from .rd_plot import rd_plot
from .reference_curves import load_references
from .spectrum import scale_spectra, spectrum_plot

THREADS = 2  # torch's, at most: seconds are comparable from machine to machine only where few are used


def run_evaluation(
    folder: Path,
    out: Path,
    codecs: Mapping[str, ImageCodec],
    references: Path | None = None,
    refine: Callable[[ImageCodec, Tensor], Encoded] | None = None,
    limit: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Evaluate models on the pictures of `folder`, and write `rd.png`, `spectrum_<quality>.png`, `table.md` and
    `evaluation.json` to `out`, which is made. Each file replaces the one of its name only once it is complete.

    folder: with its subfolders, but for `out`; one picture or a text file of paths will do too. references: a folder of published
    curves, see `load_references`; they are drawn and compared with, not written. limit: the first pictures only. Other
    arguments, result and errors: see `evaluate.evaluate`; the result has `machine` and `libraries` too.
    Raises UsageError where there are no pictures or a reference cannot be read.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(min(THREADS, before))
    try:
        published = {} if references is None else load_references(references)
        pictures = find_pictures(folder, limit, exclude=[out])
        result = evaluate(pictures, codecs, CLASSICS, published, refine, progress)
        result["pictures"]["folder"] = folder.resolve().name
        result |= {"machine": describe_device(torch.device("cpu")), "libraries": _libraries()}
        for quality, codec in codecs.items():
            images = (read_picture(pictures[name]) for name in result["pictures"]["names"])
            title = (
                f"Spectra of the latent's scales, quality {quality}, mean over {result['pictures']['count']} pictures"
            )
            with atomic_path(out / f"spectrum_{safe_name(quality)}.png") as temporary:
                spectrum_plot(scale_spectra(codec, images), title, temporary)
    finally:
        torch.set_num_threads(before)
    with atomic_path(out / "rd.png") as temporary:
        rd_plot(result, published, temporary)
    with atomic_path(out / "table.md") as temporary:
        temporary.write_text(markdown_tables(result), encoding="utf-8")
    write_json(out / "evaluation.json", result)
    return result


def _libraries() -> dict[str, str | None]:
    """Versions of what encoded."""
    found: dict[str, str | None] = {package: version(package) for package in ("torch", "pillow", "constriction")}
    return found | {codec.name: features.version(codec.feature) for codec in CLASSICS}
