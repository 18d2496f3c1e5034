"""ComfyUI's `.latent` files, which its node LoadLatent reads."""

import json
from typing import Any

import numpy as np

from ...engine.autoencoders.scaling import BatchNormScaling, identity_scaling
from ...engine.records import Record
from ..base.folder import FolderExporter
from ..base.latent_spaces import latent_space
from ..base.sample_metadata import sample_metadata
from ..files.tensor_files import save_safetensors

FRAMED = ("qwen", "wan21")  # spaces whose latents have a time axis in ComfyUI


class ComfyUIExporter(FolderExporter):
    """Write `<name>.latent`, one per picture: `latent_tensor` (1, C, h, w) fp32, unscaled, as ComfyUI's VAE Encode gives.

    Latents of Qwen-Image and Wan have a time axis, (1, C, 1, h, w); those of FLUX.2 are packed and batch-normalised,
    (1, 4C, h/2, w/2), since ComfyUI's autoencoder does both. An empty tensor `latent_format_version_0` says that the
    latents are of today's scale. The metadata in the header names autoencoder and picture.
    """

    name = "comfyui"

    def open(self) -> None:
        super().open()
        self.latents_scaled = isinstance(identity_scaling(self.header.vae), BatchNormScaling)

    def add(self, record: Record) -> None:
        latents = self.stored(self.planar(record.optimized_latents))
        if latent_space(self.header.vae) in FRAMED:
            latents = latents[:, None]
        metadata = {
            "vae": json.dumps(self.header.vae),
            "sample": json.dumps(sample_metadata(record), ensure_ascii=False, allow_nan=False),
            "source_sha256": record.source_sha256,
        }
        tensors = {
            "latent_tensor": np.ascontiguousarray(latents[None]),
            "latent_format_version_0": np.empty(0, np.float32),
        }
        with self.new_file(f"{record.name}.latent") as path:
            save_safetensors(tensors, path, metadata)

    def source_facts(self, record: Record) -> dict[str, Any]:
        return super().source_facts(record) | {"file": f"{record.name}.latent"}

    def about(self) -> str:
        return (
            "Copy the `.latent` files into ComfyUI's `input/` folder, where the node LoadLatent lists them; a VAE Decode with the\n"
            "same autoencoder shows the picture. They stand in for what VAE Encode gives, in a workflow of inpainting for one."
        )
