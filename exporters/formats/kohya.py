"""The on-disk latent cache of sd-scripts (kohya), for Stable Diffusion 1.x, 2.x and XL."""

import math
from typing import Any

import numpy as np

from ...engine.inputs.views import FLIPPED
from ...engine.records import Record
from ..base.sidecar import SidecarExporter

SDXL_FACTOR = 0.13025  # the scaling factor that identifies SDXL's autoencoder


class KohyaExporter(SidecarExporter):
    """Write `<folder>/<stem>_<W>x<H>_sd.npz`, or `_sdxl.npz`, where W × H is the original size of the picture.

    Each file holds `latents` (C, h, w) fp32, unscaled, `original_size` (W, H), `crop_ltrb`, and with --flip
    `latents_flipped`. The folders have to be copied over the pictures' own folder.
    """

    name = "kohya"
    channels = 4
    consumer_factors = (0.18215, SDXL_FACTOR)

    @property
    def suffix(self) -> str:
        """The model family of sd-scripts that reads the files: "sdxl" or "sd"."""
        return "sdxl" if math.isclose(self.header.vae["scaling_factor"], SDXL_FACTOR) else "sd"

    def file_end(self, record: Record) -> str:
        height, width = record.original_size
        return f"_{width:04d}x{height:04d}_{self.suffix}.npz"

    def add(self, record: Record) -> None:
        height, width = record.original_size
        size = record.optimized_latents.shape[-1] * (self.header.vae["downscale_factor"] or 8)
        arrays: dict[str, Any] = {
            "latents": self.stored(record.optimized_latents),
            "original_size": np.array([width, height]),
            "crop_ltrb": np.array(crop_ltrb(size, width, height)),
        }
        if mirrored := record.views.get(FLIPPED):
            arrays["latents_flipped"] = self.stored(mirrored.optimized_latents)
        with self.new_file(self.file_of(record)) as path, path.open("wb") as file:
            np.savez(file, **arrays)

    def about(self) -> str:
        size = self.header.size or "SIZE"
        flip = "`flip_aug` works: the mirrored pictures have latents of their own." if self.views[FLIPPED] else (
            "Leave `flip_aug` off: the run had no --flip, so there is no `latents_flipped`, and the trainer would encode again."
        )  # fmt: skip
        return ABOUT.format(size=size, suffix=self.suffix, flip=flip)


def crop_ltrb(size: int, width: int, height: int) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom in pixels, as sd-scripts computes them for a bucket of `size` × `size` pixels.

    The rectangle is the picture with its longer side scaled to that of the bucket, centred in the bucket.
    """
    ratio = width / height
    inner_width, inner_height = (size * ratio, size) if ratio < 1 else (size, size / ratio)
    left, top = (size - inner_width) // 2, (size - inner_height) // 2
    return left, top, left + inner_width, top + inner_height


ABOUT = """Copy the `.npz` files, with their folders, over the pictures': so they lie where sd-scripts looks for them, named
`_{suffix}.npz` by the autoencoder's scaling factor. Then, in the trainer:

- `cache_latents = true` and `cache_latents_to_disk = true`;
- `resolution = {size}` and `enable_bucket = false`, so that every picture's bucket is {size} × {size}, the run's size. sd-scripts
  does not check the shape of these files: another bucket would train on latents of the wrong size.
- no `random_crop`, `color_aug` or `alpha_mask`. {flip}
- a `<stem>.npz` of an older cache takes precedence: remove it.

The latents are of the pictures as the run saw them: with --fit crop the shorter side scaled to {size}, bilinear, and the
middle cut out. `crop_ltrb` is what sd-scripts itself computes from the original size and a {size} × {size} bucket, not the
cut in pixels; it matters for SDXL only, whose conditioning it is. sd-scripts reads sizes without EXIF orientation: a
picture turned by a quarter is not found under its upright size, and is encoded by the trainer.
"""
