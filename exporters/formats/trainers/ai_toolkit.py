"""The on-disk latent cache of ai-toolkit."""

import base64
import hashlib
import json
import math
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ....engine.errors import UsageError
from ....engine.records import Record
from ...base.latent_spaces import described, latent_space
from ...base.sidecar import SidecarExporter
from ...files.tensor_files import save_safetensors

# the trainer's names of latent spaces: those of the models that it knew first, and of later ones their architecture's
SPACES = {
    "sd": "sd1",
    "sdxl": "sdxl",
    "sd3": "sd3",
    "flux": "flux1",
    "flux2": "flux2",
    "qwen": "qwen_image",
    "wan21": "wan21",
}
# architectures with an autoencoder of these, by the words of whose names in that of an autoencoder they are told; the
# trainer's name of the latent space is theirs
ARCHITECTURES = (
    ("flux", ("kontext",), "flux_kontext"),
    ("flux", ("z-image",), "zimage"),
    ("flux", ("chroma",), "chroma"),
    ("flux", ("lumina",), "lumina2"),
    ("flux2", ("klein", "4b"), "flux2_klein_4b"),
    ("flux2", ("klein", "9b"), "flux2_klein_9b"),
    ("qwen", ("krea",), "krea2"),
    ("qwen", ("anima",), "anima"),
)
FRAMED = ("wan21",)  # spaces in which a picture is cached as a clip of one frame


class AIToolkitExporter(SidecarExporter):
    """Write `<folder>/_latent_cache/<stem>_<hash>.safetensors` files for ai-toolkit.

    Each holds `latent` (C, h, w) fp32 **scaled**, as the diffusion model sees it: (z − shift) · scale, or by channel
    statistics, or packed and batch-normalised, as the autoencoder's scaling says; with a time axis, (C, 1, h, w), for
    Wan. The folders have to be copied over the pictures' own folder. The hash covers the trainer's parameters for a
    picture that is scaled to cover its bucket and cropped in the middle, the square of the run's size for one.
    """

    name = "ai-toolkit"
    latents_scaled = True
    shift_subtracted = True
    subfolder = "_latent_cache"

    @classmethod
    def check_vae(cls, vae: dict[str, Any]) -> None:
        if vae["latent_channels"] is None:
            raise UsageError(f"ai-toolkit names latents by their channels, and those of {vae['name']!r} are not known")

    @property
    def space(self) -> str:
        """The trainer's `latent_space_version`; a name specific to relatent if the trainer has none for this VAE."""
        vae = self.header.vae
        space, words = latent_space(vae), described(vae)
        for shared, needed, architecture in ARCHITECTURES:
            if space == shared and all(word in words for word in needed):
                return architecture
        return SPACES.get(space or "", f"relatent-{str(vae['weights_sha256'])[:8]}")

    def file_end(self, record: Record) -> str:
        text = json.dumps(self.parameters(record), sort_keys=True).encode()
        digest = base64.urlsafe_b64encode(hashlib.md5(text, usedforsecurity=False).digest())
        return f"_{digest.decode().rstrip('=')}.safetensors"

    def parameters(self, record: Record) -> dict[str, Any]:
        """Return the parameters of a picture that is not mirrored, from which the trainer computes the hash."""
        height, width = record.original_size
        crop_height, crop_width = self.pixels(record)
        scale = max(crop_width / width, crop_height / height)
        scaled_width, scaled_height = math.ceil(width * scale), math.ceil(height * scale)
        return {
            "filename": PurePosixPath(record.source_path).name,
            "scale_to_width": scaled_width,
            "scale_to_height": scaled_height,
            "crop_x": int((scaled_width - crop_width) / 2),
            "crop_y": int((scaled_height - crop_height) / 2),
            "crop_width": crop_width,
            "crop_height": crop_height,
            "latent_space_version": self.space,
            "latent_version": 1,
        }

    def add(self, record: Record) -> None:
        metadata = {key: json.dumps(value) for key, value in self.parameters(record).items()}
        if record.source_sha256:
            metadata["source_sha256"] = record.source_sha256
        with self.new_file(self.file_of(record)) as path:
            save_safetensors({"latent": self._latents(record)}, path, metadata)

    def _latents(self, record: Record) -> np.ndarray:
        latents = self.stored(self.planar(record.optimized_latents))
        framed = latent_space(self.header.vae) in FRAMED
        return np.ascontiguousarray(latents[:, None] if framed else latents)

    def about(self) -> str:
        known = latent_space(self.header.vae) in SPACES
        note = (OTHERS if known else OWN_SPACE).format(space=self.space)
        return ABOUT.format(size=self.size_text(), space=self.space) + note


ABOUT = """Copy the `_latent_cache` folders, with those they lie in, over the pictures'. In the trainer's `datasets:` entry set `cache_latents_to_disk: true`,
`resolution: {size}`, `square_crop: true` (for a run with `--buckets ai-toolkit:RESO`, `resolution: RESO` without `square_crop`), and
leave out `scale`, `flip_x`, `flip_y`, `random_crop`, `augments` and `cache_tensors_to_disk`.

ai-toolkit finds a file by a hash of the picture's file name, the size it is scaled to, the crop, and the space of latents
(here `{space}`). These names are those of a crop at the run's size; with any other setting, a renamed picture, or a version of
the trainer that hashes more, a file is not found, and the trainer encodes that picture itself, without a word. Watch its
log for "Caching latents": with everything found it passes at once. Sizes are those of the upright pictures. Mirrored
latents are left out: versions of the trainer differ in what `flip_x` does.
"""

OTHERS = """
The name of the space is that of the trainer's architecture. For another architecture with the same autoencoder, Stable
Diffusion 2 for that of 1.x, Z-Image or Chroma for FLUX.1's, FLUX.2 klein for FLUX.2's, set `latent_space_version: {space}` in the
trainer's `model:` entry.
"""

OWN_SPACE = """
The trainer has no name for this autoencoder's latents: set `latent_space_version: {space}` in its `model:` entry.
"""
