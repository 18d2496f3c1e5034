"""The latent cache of LightningDiT: safetensors shards and per-channel statistics."""

from typing import Any

import numpy as np

from ...engine.records import Record
from ...engine.statistics.moments import Moments
from ..files.tensor_files import save_pt
from .safetensors import SafetensorsExporter


class LightningDiTExporter(SafetensorsExporter):
    """Write `latents_rank00_shard<number>.safetensors`, unscaled, and `latents_stats.pt`.

    A shard holds `latents` and `latents_flip` (N, C, h, w) fp32 and `labels` (N,) int64. `latents_stats.pt` holds
    `mean` and `std` (1, C, 1, 1), with which the trainer normalises. Requires --flip: the trainer reads either latent
    at random.
    """

    name = "lightningdit"
    needs_square = True
    needs_flip = True
    per_split = True

    def open(self) -> None:
        super().open()
        self.moments: dict[str, Moments] = {}
        self.folders: dict[str, str] = {}

    def encode(self, record: Record) -> tuple[dict[str, Any], int]:
        self.folders[record.split] = self.place(record).as_posix()
        latents = record.optimized_latents
        found = Moments.of(latents.reshape(len(latents), -1))
        known = self.moments.get(record.split)
        self.moments[record.split] = known.merge(found) if known else found
        return super().encode(record)

    def latents(self, record: Record) -> dict[str, np.ndarray]:
        return {"latents": record.optimized_latents, "latents_flip": self.mirrored(record).optimized_latents}

    def file_name(self, split: str, number: int) -> str:
        return f"{self.folders[split]}/latents_rank00_shard{number:03d}.safetensors"

    def finish(self) -> None:
        import torch

        super().finish()
        for split, moments in self.moments.items():
            std = np.sqrt(moments.m2 / max(moments.count - 1, 1))  # as torch.std, which the trainer uses
            shape = (1, len(std), 1, 1)
            stats = {
                key: torch.tensor(value, dtype=torch.float32).reshape(shape)
                for key, value in (("mean", moments.mean), ("std", std))
            }
            with self.new_file(f"{self.folders[split]}/latents_stats.pt") as path:
                save_pt(stats, path)

    def about(self) -> str:
        return (
            f"LightningDiT: `data: data_path:` {self.where()}, `latent_norm: true`, `latent_multiplier` 1.0 or your own. The\n"
            "model's channels and its tokenizer must be those of this autoencoder. Labels count `classes.json`."
        )
