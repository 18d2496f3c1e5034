"""safetensors: shards of plain tensors, for custom data loaders."""

import json
from typing import Any

import numpy as np

from ...engine.records import Record
from ..base.exporter import SCHEMA
from ..base.sample_metadata import sample_metadata
from ..base.sharded import ShardedExporter
from ..files.tensor_files import save_safetensors


class SafetensorsExporter(ShardedExporter):
    """Write `<split>-<number>.safetensors` of up to 256 samples of one size, unscaled.

    A shard holds `latents` (N, C, h, w) fp32, with --flip also `latents_flipped`, and `labels` (N,) int64. The metadata
    in its header: `schema`, `format`, `vae`, `latents_scaled`, `scaling_factor`, `shift_factor`, and `samples`, a JSON
    list of each picture's name, path, caption and metrics.
    """

    name = "safetensors"
    needs_classes = True
    one_shape = True
    shard_samples = 256

    def encode(self, record: Record) -> tuple[dict[str, Any], int]:
        tensors: dict[str, Any] = {name: self.stored(latents) for name, latents in self.latents(record).items()}
        tensors["labels"] = np.int64(self.label(record))
        return {"tensors": tensors, "facts": sample_metadata(record)}, sum(value.nbytes for value in tensors.values())

    def latents(self, record: Record) -> dict[str, np.ndarray]:
        """Return the unscaled latents of a picture by the names of their tensors: here, those of all its views."""
        return {f"latents{view.suffix}": outcome.optimized_latents for view, outcome in record.all_views()}

    def file_name(self, split: str, number: int) -> str:
        """Return the path of a shard, relative to the folder."""
        return f"{split}-{number:05d}.safetensors"

    def write_shard(self, split: str, number: int, samples: list[Any]) -> None:
        vae = self.header.vae
        metadata = {
            "schema": SCHEMA,
            "format": self.name,
            "vae": json.dumps(vae),
            "latents_scaled": json.dumps(self.latents_scaled),
            "scaling_factor": json.dumps(vae["scaling_factor"]),
            "shift_factor": json.dumps(vae["shift_factor"]),
            "samples": json.dumps([sample["facts"] for sample in samples], ensure_ascii=False, allow_nan=False),
        }
        keys = samples[0]["tensors"]
        tensors = {key: np.stack([sample["tensors"][key] for sample in samples]) for key in keys}
        with self.new_file(self.file_name(split, number)) as path:
            save_safetensors(tensors, path, metadata)

    def about(self) -> str:
        return "`safetensors.safe_open` reads a shard and, by `metadata()`, its header. Labels count `classes.json`."
