"""What the loop found for a picture, as the record that shards and exporters pass on."""

import numpy as np
import torch

from ..inputs.images import LoadedImage
from ..inputs.prefetch import failure
from ..inputs.sources import Source
from ..losses.metrics import to_uint8
from ..records import Failure, Outcome, Record
from .optimizer import OptimizationResult


def to_record(
    source: Source, image: LoadedImage, results: dict[bool, OptimizationResult], keep_images: bool
) -> Record | Failure:
    """The record of a picture, or its failure where a result is not finite.

    results: of the picture, False, and of its mirror image, True, where that was optimised too. keep_images: hand on the
    pictures too, uint8 (H, W, 3): the original, the encoder's reconstruction and the optimised one.
    """
    for mirrored, result in sorted(results.items()):
        if not torch.isfinite(result.optimized_latents).all() or not np.isfinite([*result.metrics.values()]).all():
            reason = "NaN or infinity from the start: the encoder's latent does not decode"
            return failure(source, "optimize", f"mirrored: {reason}" if mirrored else reason)
    return Record(
        **vars(to_outcome(results[False])),
        name=source.name,
        split=source.split,
        source_path=source.relative,
        source_sha256=source.sha256 or "",
        original_size=image.original_size,
        conversions=image.conversions,
        images=_images(image, results[False]) if keep_images else {},
        flipped=to_outcome(results[True]) if True in results else None,
        target=image.pixels,
    )


def to_outcome(result: OptimizationResult) -> Outcome:
    """The same in numpy, without the pictures."""
    return Outcome(
        initial_latents=result.initial_latents[0].cpu().numpy(),
        optimized_latents=result.optimized_latents[0].cpu().numpy(),
        losses=result.losses,
        convergence_iteration=result.convergence_iteration,
        stop_reason=result.stop_reason,
        metrics=result.metrics,
    )


def _images(image: LoadedImage, result: OptimizationResult) -> dict[str, np.ndarray]:
    """uint8 (H, W, 3), by `records.IMAGES`."""
    found = {"original": image.pixels}
    for key, picture in (("initial", result.initial_image), ("optimized", result.optimized_image)):
        found[key] = to_uint8(picture[0]).permute(1, 2, 0).cpu().numpy()
    return found
