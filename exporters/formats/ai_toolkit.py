"""The on-disk latent cache of ai-toolkit."""

import base64
import hashlib
import json
import math
from pathlib import PurePosixPath
from typing import Any

from ...engine.records import Record
from ..base.sidecar import SidecarExporter

# the trainer's name of a latent space, by (channels, scaling factor)
SPACES = {(4, 0.18215): "sd1", (4, 0.13025): "sdxl", (16, 1.5305): "sd3", (16, 0.3611): "flux1"}


class AIToolkitExporter(SidecarExporter):
    """Write `<folder>/_latent_cache/<stem>_<hash>.safetensors` files for ai-toolkit.

    Each holds `latent` (C, h, w) fp32 **scaled**, (z − shift) · scale. The folders have to be copied over the pictures'
    own folder. The hash covers the trainer's parameters for `square_crop` at the size of the run.
    """

    name = "ai-toolkit"
    latents_scaled = True
    shift_subtracted = True
    subfolder = "_latent_cache"

    @property
    def space(self) -> str:
        """The trainer's `latent_space_version`; a name specific to relatent if the trainer has none for this VAE."""
        vae = self.header.vae
        return SPACES.get((vae["latent_channels"], vae["scaling_factor"]), f"relatent-{str(vae['weights_sha256'])[:8]}")

    def file_end(self, record: Record) -> str:
        text = json.dumps(self.parameters(record), sort_keys=True).encode()
        digest = base64.urlsafe_b64encode(hashlib.md5(text, usedforsecurity=False).digest())
        return f"_{digest.decode().rstrip('=')}.safetensors"

    def parameters(self, record: Record) -> dict[str, Any]:
        """Return the parameters of a picture that is not mirrored, from which the trainer computes the hash."""
        height, width = record.original_size
        size = record.optimized_latents.shape[-1] * (self.header.vae["downscale_factor"] or 8)
        scale = max(size / width, size / height)
        scaled_width, scaled_height = math.ceil(width * scale), math.ceil(height * scale)
        return {
            "filename": PurePosixPath(record.source_path).name,
            "scale_to_width": scaled_width,
            "scale_to_height": scaled_height,
            "crop_x": int(scaled_width / 2 - size / 2) if width > height else 0,
            "crop_y": 0 if width > height else int(scaled_height / 2 - size / 2),
            "crop_width": size,
            "crop_height": size,
            "latent_space_version": self.space,
            "latent_version": 1,
        }

    def add(self, record: Record) -> None:
        from safetensors.numpy import save_file

        metadata = {key: json.dumps(value) for key, value in self.parameters(record).items()}
        with self.new_file(self.file_of(record)) as path:
            save_file({"latent": self.stored(record.optimized_latents)}, path, metadata)

    def about(self) -> str:
        own = "" if self.space in SPACES.values() else OWN_SPACE.format(space=self.space)
        return ABOUT.format(size=self.header.size or "SIZE", space=self.space) + own


ABOUT = """Copy the `_latent_cache` folders, with those they lie in, over the pictures'. In the trainer's `datasets:` entry set `cache_latents_to_disk: true`,
`resolution: {size}`, `square_crop: true`, and leave out `scale`, `flip_x`, `flip_y`, `random_crop`, `augments` and
`cache_tensors_to_disk`.

ai-toolkit finds a file by a hash of the picture's file name, the size it is scaled to, the crop, and the space of latents
(here `{space}`). These names are those of a square crop at {size}; with any other setting, a renamed picture, or a version of
the trainer that hashes more, a file is not found, and the trainer encodes that picture itself, without a word. Watch its
log for "Caching latents": with everything found it passes at once. Sizes are those of the upright pictures. Mirrored
latents are left out: versions of the trainer differ in what `flip_x` does.
"""

OWN_SPACE = """
The trainer has no name for this autoencoder's latents: set `latent_space_version: {space}` in its `model:` entry.
"""
