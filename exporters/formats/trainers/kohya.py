"""The on-disk latent cache of sd-scripts (kohya), for each family of models that it trains."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ....engine.errors import UsageError
from ....engine.inputs.views import FLIPPED
from ....engine.records import Outcome, Record
from ...base.latent_spaces import MODELS, described, latent_space
from ...base.sidecar import SidecarExporter


@dataclass(frozen=True)
class Family:
    """The models that read one kind of cache."""

    suffix: str  # of the file names
    scaled: bool = False  # whether latents are cached as the diffusion model sees them
    factors: tuple[float, ...] = ()  # by which the trainer multiplies cached latents
    bare: bool = False  # whether versions before 2026 read keys without the size of the latents


SD_FACTORS = (0.18215, 0.13025)
FAMILIES = {  # by latent space; Lumina's autoencoder is FLUX.1's, Anima's that of Qwen-Image
    "sd": Family("sd", factors=SD_FACTORS, bare=True),
    "sdxl": Family("sdxl", factors=SD_FACTORS, bare=True),
    "sd3": Family("sd3", factors=(1.5305,)),
    "flux": Family("flux", scaled=True),
    "hunyuan-image": Family("hi", factors=(0.75289,)),
    "qwen": Family("anima", scaled=True),
}
LUMINA = Family("lumina", scaled=True)


def family_of(vae: dict[str, Any]) -> Family:
    """Return the family of models that are trained on latents of this autoencoder.

    One of 4 channels that is not known is taken for one of Stable Diffusion. Raises `UsageError` if there is none.
    """
    space = latent_space(vae)
    if space == "flux" and "lumina" in described(vae):
        return LUMINA
    if space in FAMILIES:
        return FAMILIES[space]
    if vae["latent_channels"] in (4, None) and vae["downscale_factor"] in (8, None):
        return FAMILIES["sd"]
    raise UsageError(
        f"kohya: sd-scripts has no family of models for latents of {vae['name']!r} ({vae['latent_channels']} channels, "
        f"1/{vae['downscale_factor']} of the size); it has for those of {'; '.join(MODELS[name] for name in FAMILIES)}"
    )


class KohyaExporter(SidecarExporter):
    """Write `<folder>/<stem>_<W>x<H>_<family>.npz`, where W × H is the original size of the picture.

    The family is that of the autoencoder: `sd`, `sdxl`, `sd3`, `hi` (unscaled), `flux`, `lumina` or `anima` (scaled).
    Each file holds `latents_<h>x<w>` (C, h, w) fp32, `original_size_<h>x<w>` (W, H), `crop_ltrb_<h>x<w>`, with --flip
    `latents_flipped_<h>x<w>`, and with --masks `alpha_mask_<h>x<w>` (H, W) fp32 in [0, 1], the mask of the cropped
    picture; for `sd` and `sdxl` the same again without the size. The folders have to be copied over the pictures' own.
    """

    name = "kohya"
    shift_subtracted = True

    def open(self) -> None:
        super().open()
        self.latents_scaled, self.consumer_factors = self.family.scaled, self.family.factors

    @classmethod
    def check_vae(cls, vae: dict[str, Any]) -> None:
        family_of(vae)

    @property
    def family(self) -> Family:
        """The family of models that reads the files."""
        return family_of(self.header.vae)

    @property
    def suffix(self) -> str:
        """The name of that family in the file names."""
        return self.family.suffix

    def file_end(self, record: Record) -> str:
        height, width = record.original_size
        return f"_{width:04d}x{height:04d}_{self.suffix}.npz"

    def add(self, record: Record) -> None:
        height, width = record.original_size
        bucket_height, bucket_width = self.pixels(record)
        arrays: dict[str, Any] = {
            "latents": self._latents(record),
            "original_size": np.array([width, height]),
            "crop_ltrb": np.array(crop_ltrb((bucket_width, bucket_height), width, height)),
        }
        if mirrored := record.views.get(FLIPPED):
            arrays["latents_flipped"] = self._latents(mirrored)
        if record.mask is not None:
            arrays["alpha_mask"] = record.mask.astype(np.float32) / 255.0
        h, w = arrays["latents"].shape[-2:]
        keyed = {f"{key}_{h}x{w}": value for key, value in arrays.items()}
        with self.new_file(self.file_of(record)) as path, path.open("wb") as file:
            np.savez(file, **keyed, **(arrays if self.family.bare else {}))

    def _latents(self, outcome: Outcome) -> np.ndarray:
        return self.stored(self.planar(outcome.optimized_latents))

    def about(self) -> str:
        size = self.size_text('"{},{}"')
        flip = "`flip_aug` works: the mirrored pictures have latents of their own." if self.views[FLIPPED] else (
            "Leave `flip_aug` off: the run had no --flip, so there is no `latents_flipped`, and the trainer would encode again."
        )  # fmt: skip
        old = OLD if self.family.bare else ""
        lumina = RENAMED if self.suffix == "flux" else ""
        return ABOUT.format(size=size, suffix=self.suffix, flip=flip) + old + lumina


def crop_ltrb(bucket: tuple[int, int], width: int, height: int) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom in pixels, as sd-scripts computes them for a bucket (width, height) in pixels.

    The rectangle is the picture scaled to fit inside the bucket, and centred in it.
    """
    bucket_width, bucket_height = bucket
    ratio = width / height
    if bucket_width / bucket_height > ratio:
        inner_width, inner_height = bucket_height * ratio, float(bucket_height)
    else:
        inner_width, inner_height = float(bucket_width), bucket_width / ratio
    left, top = (bucket_width - inner_width) // 2, (bucket_height - inner_height) // 2
    return left, top, left + inner_width, top + inner_height


ABOUT = """Copy the `.npz` files, with their folders, over the pictures': so they lie where sd-scripts looks for them, named
`_{suffix}.npz` by the autoencoder. Then, in the trainer:

- `cache_latents = true` and `cache_latents_to_disk = true`;
- for a run at one size, `resolution = {size}` and `enable_bucket = false`, so that every picture's bucket is the run's size; for
  a run with `--buckets sd-scripts:RESO`, `resolution = RESO`, `enable_bucket = true` and the trainer's default steps and limits.
  Keys carry the size of the latents: a picture whose bucket is another is encoded again.
- no `random_crop` or `color_aug`. `alpha_mask = true` only for a run with --masks, whose masks are in the files. {flip}

The latents are of the pictures as the run saw them: with --fit crop scaled to cover the bucket, bilinear, and the middle cut
out. `crop_ltrb` is what sd-scripts itself computes from the original size and the bucket, not the cut in pixels; it matters for
SDXL only, whose conditioning it is. sd-scripts reads sizes without EXIF orientation: a picture turned by a quarter is not
found under its upright size, and is encoded by the trainer.
"""

OLD = """
Versions before February 2026 read the keys without a size, and do not check the shape: there a bucket of another size than
the run's would train on latents of the wrong size. A `<stem>.npz` of an older cache takes precedence: remove it.
"""

RENAMED = """
Lumina Image 2 is trained on the same latents, from files that end in `_lumina.npz`: rename them.
"""
