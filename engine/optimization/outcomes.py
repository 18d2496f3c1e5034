"""Conversion of the loop's results to the records that shards and exporters take."""

import numpy as np
import torch

from ..inputs.images import LoadedImage
from ..inputs.prefetch import failure
from ..inputs.sources import Source
from ..inputs.views import PLAIN, VIEWS
from ..losses.metrics import to_uint8
from ..records import Failure, Outcome, Record
from .optimizer import OptimizationResult


def to_record(
    source: Source, image: LoadedImage, results: dict[str, OptimizationResult], keep_images: bool
) -> Record | Failure:
    """Return the record of a picture, or its failure where a result is not finite.

    results: by the views' names, the plain one among them. keep_images: hand on the plain view's pictures too, uint8
    (H, W, 3): the original, the encoder's reconstruction and the optimised one.
    """
    for name, view in VIEWS.items():
        if name in results and not _is_finite(results[name]):
            reason = "NaN or infinity from the start: the encoder's latent does not decode"
            return failure(source, "optimize", reason if name == PLAIN else f"{view.label}: {reason}")
    return Record(
        **vars(to_outcome(results[PLAIN])),
        name=source.name,
        split=source.split,
        source_path=source.relative,
        source_sha256=source.sha256 or "",
        original_size=image.original_size,
        conversions=image.conversions,
        images=_images(image, results[PLAIN]) if keep_images else {},
        views={name: to_outcome(result) for name, result in results.items() if name != PLAIN},
        caption=image.caption,
        mask=image.mask,
        target=image.pixels,
    )


def to_outcome(result: OptimizationResult) -> Outcome:
    """Return a result as an `Outcome` of numpy arrays, without the pictures."""
    return Outcome(
        initial_latents=result.initial_latents[0].cpu().numpy(),
        optimized_latents=result.optimized_latents[0].cpu().numpy(),
        losses=result.losses,
        convergence_iteration=result.convergence_iteration,
        stop_reason=result.stop_reason,
        metrics=result.metrics,
    )


def _is_finite(result: OptimizationResult) -> bool:
    return bool(torch.isfinite(result.optimized_latents).all()) and bool(np.isfinite([*result.metrics.values()]).all())


def _images(image: LoadedImage, result: OptimizationResult) -> dict[str, np.ndarray]:
    """uint8 (H, W, 3), by `records.IMAGES`."""
    found = {"original": image.pixels}
    for key, picture in (("initial", result.initial_image), ("optimized", result.optimized_image)):
        found[key] = to_uint8(picture[0]).permute(1, 2, 0).cpu().numpy()
    return found
