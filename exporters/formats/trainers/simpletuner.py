"""The VAE cache of SimpleTuner."""

import hashlib
from pathlib import PurePosixPath
from typing import Any

import torch

from ....engine.autoencoders.scaling import ChannelScaling, identity_scaling
from ....engine.errors import UsageError
from ....engine.records import Record
from ...base.latent_spaces import latent_space
from ...base.names import source_folder
from ...base.sidecar import SidecarExporter
from ...files.tensor_files import save_pt


class SimpleTunerExporter(SidecarExporter):
    """Write `<folder>/<SHA-256 of the picture's stem>.pt`, one tensor (C, h, w) fp32 per file.

    Latents are **scaled**, as the diffusion model sees them: (z − shift) · scale, by the channels' statistics for
    Qwen-Image, and packed to 4C channels at half the size and batch-normalised for FLUX.2.
    """

    name = "simpletuner"
    latents_scaled = True
    shift_subtracted = True

    @classmethod
    def check_vae(cls, vae: dict[str, Any]) -> None:
        if isinstance(identity_scaling(vae), ChannelScaling) and latent_space(vae) != "qwen":
            raise UsageError(
                f"simpletuner: of autoencoders with statistics per channel, only Qwen-Image's is cached in a way that is "
                f"known, and {vae['name']!r} is another"
            )

    def file_end(self, record: Record) -> str:
        return ".pt"

    def file_stem(self, record: Record, room: int) -> str:
        return hashlib.sha256(PurePosixPath(record.source_path).stem.encode()).hexdigest()

    def is_found(self, record: Record, room: int) -> bool:
        folder = PurePosixPath(record.source_path).parent
        return source_folder(record) == folder and ".." not in folder.parts

    def add(self, record: Record) -> None:
        latents = torch.from_numpy(self.stored(self.planar(record.optimized_latents)))
        with self.new_file(self.file_of(record)) as path:
            save_pt(latents, path)

    def about(self) -> str:
        return ABOUT.format(size=self.size_text())


ABOUT = """In the trainer's data backend (`multidatabackend.json`), `"instance_data_dir"` is the folder of the pictures that the run
read, `"cache_dir_vae"` this folder, and

- for a run at one size, `"crop": true, "crop_style": "center", "crop_aspect": "square", "resolution_type": "pixel",
  "resolution": {size}`; for a run with `--buckets simpletuner:RESO`, `"crop": false`, `"resolution": RESO` and the
  `resolution_type` and alignment that the rule was given;
- `"vae_cache_clear_each_epoch": false`, and in `config.json` no `compress_disk_cache`, with which it expects gzip. Names are
  hashed, as current versions always do, older ones with `"hash_filenames": true`.

The trainer then finds every picture cached, and encodes none. It does not compare the size of a latent with the size that it
computes for the picture: the crop has to be the run's. `sources.jsonl` names the picture of each file. Mirrored latents have
no place in this cache.
"""
