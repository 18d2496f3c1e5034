"""The latent cache of musubi-tuner, for its image models."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ....engine.errors import UsageError
from ....engine.records import Record
from ...base.latent_spaces import MODELS, described, latent_space
from ...base.sidecar import SidecarExporter
from ...files.tensor_files import save_safetensors


@dataclass(frozen=True)
class Architecture:
    """One of the trainer's models."""

    space: str  # latent space of its autoencoder
    short: str  # in file names
    full: str  # in the files' metadata
    words: tuple[str, ...] = ()  # that name or repository of an autoencoder must hold for this model
    scaled: bool = True  # whether latents are cached as the model sees them
    framed: bool = True  # whether a latent has a time axis, (C, 1, h, w)
    frames_in_key: bool = True  # whether the key of a latent holds the number of frames


ARCHITECTURES = (  # of one latent space, the first whose words are found is taken; the others are reached by renaming
    Architecture("qwen", "kr2", "krea2", ("krea",)),
    Architecture("qwen", "qi", "qwen_image"),
    Architecture("wan21", "wan", "wan"),
    Architecture("flux", "zi", "z_image", scaled=False, framed=False),
    Architecture("flux2", "f2k4b", "flux_2_klein_4b", ("klein", "4b"), framed=False, frames_in_key=False),
    Architecture("flux2", "f2k9b", "flux_2_klein_9b", ("klein", "9b"), framed=False, frames_in_key=False),
    Architecture("flux2", "f2d", "flux_2_dev", framed=False, frames_in_key=False),
)


def architecture_of(vae: dict[str, Any]) -> Architecture:
    """Return the trainer's model for latents of this autoencoder. Raises `UsageError` if there is none."""
    space, words = latent_space(vae), described(vae)
    for architecture in ARCHITECTURES:
        if architecture.space == space and all(word in words for word in architecture.words):
            return architecture
    known = "; ".join(MODELS[name] for name in dict.fromkeys(architecture.space for architecture in ARCHITECTURES))
    raise UsageError(
        f"musubi: musubi-tuner has no model for latents of {vae['name']!r} ({vae['latent_channels']} channels, "
        f"1/{vae['downscale_factor']} of the size); it has for those of {known}"
    )


class MusubiExporter(SidecarExporter):
    """Write `<folder>/<stem>_<W>x<H>_<arch>.safetensors`, where W × H is the original size of the picture.

    Each holds one fp32 tensor: `latents_1x<h>x<w>_float32`, (C, 1, h, w) **scaled** by the channels' statistics for
    `qi`, `kr2` and `wan`, (C, h, w) unscaled for `zi`; and `latents_<h>x<w>_float32`, (4C, h/2, w/2) packed and
    batch-normalised, for `f2d`, `f2k4b` and `f2k9b`. The metadata holds `architecture`, `width`, `height` (the original
    size), `format_version`, and `source_sha256`. Each folder is a `cache_directory` of the trainer.
    """

    name = "musubi"
    latents_scaled = True

    def open(self) -> None:
        super().open()
        self.latents_scaled = self.architecture.scaled

    @classmethod
    def check_vae(cls, vae: dict[str, Any]) -> None:
        architecture_of(vae)

    @property
    def architecture(self) -> Architecture:
        """The trainer's model that reads the files."""
        return architecture_of(self.header.vae)

    def file_end(self, record: Record) -> str:
        height, width = record.original_size
        return f"_{width:04d}x{height:04d}_{self.architecture.short}.safetensors"

    def add(self, record: Record) -> None:
        model = self.architecture
        latents = self.stored(self.planar(record.optimized_latents))
        height, width = latents.shape[-2:]
        key = f"latents_{'1x' if model.frames_in_key else ''}{height}x{width}_float32"
        metadata = {
            "architecture": model.full,
            "width": str(record.original_size[1]),
            "height": str(record.original_size[0]),
            "format_version": "1.0.1",
            "vae_weights_sha256": str(self.header.vae["weights_sha256"]),
            "source_sha256": record.source_sha256,
        }
        with self.new_file(self.file_of(record)) as path:
            save_safetensors({key: np.ascontiguousarray(latents[:, None] if model.framed else latents)}, path, metadata)

    def about(self) -> str:
        size, short = self.size_text("{}, {}"), self.architecture.short
        size = size if "," in size else f"{size}, {size}"
        others = [other.short for other in ARCHITECTURES if other.space == self.architecture.space]
        rename = RENAMED.format(short=short, others=", ".join(others)) if len(others) > 1 else ""
        return ABOUT.format(size=size, short=short) + rename


ABOUT = """In musubi-tuner's dataset configuration, one `[[datasets]]` entry per folder of pictures: `image_directory` the folder of the
pictures, `cache_directory` the folder of the same name here, and

- for a run at one size, `resolution = [{size}]` and `enable_bucket = false`; for a run with `--buckets musubi:RESO`,
  `resolution = [RESO, RESO]` and `enable_bucket = true`. The trainer takes the bucket from the original size in the name, and
  does not compare it with the latent's own.
- no control images: these caches hold targets only.

Cache the text encoder's outputs as usual, into the same folders. Do not run the trainer's script that caches latents, or run
it with `--skip_existing`: it would encode the pictures again. Files are found as `*_{short}.safetensors`, by the original size
in their names, which the trainer reads without EXIF orientation. Mirrored latents have no place in this cache.
"""

RENAMED = """
The same latents serve {others}, each under its own ending. For another than `{short}`, rename, in each folder:

```sh
for f in *_{short}.safetensors; do mv "$f" "${{f%_{short}.safetensors}}_ARCH.safetensors"; done
```
"""
