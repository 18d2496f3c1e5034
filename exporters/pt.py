"""PyTorch: one `.pt` of plain tensors, strings and numbers, for sets that fit in memory."""

import numpy as np
import torch

from ..engine.errors import UsageError
from ..engine.records import METRICS, Record
from .exporter import SCHEMA, Exporter
from .statistics import metric_statistics


class PTExporter(Exporter):
    """Loads with `torch.load(weights_only=True)`. Stacked tensors, sample i of each belongs to image_name[i]."""

    def open(self) -> None:
        self.records: list[Record] = []

    def write(self, records: list[Record]) -> None:
        self.records += records

    def close(self) -> None:
        records, header = self.records, self.header
        if not records:
            raise UsageError("nothing to write: the run has no finished picture")
        content = {
            "metadata": {
                "schema": SCHEMA,
                "total_samples": len(records),
                "optimization_config": header.config,
                "processing_statistics": metric_statistics([record.metrics for record in records]),
                "creation_timestamp": header.created,
                "relatent_version": header.relatent_version,
                "vae": header.vae,
                "latents_scaled": False,
                "scaling_factor": header.vae["scaling_factor"],
                "shift_factor": header.vae["shift_factor"],
                "value_range": "[-1, 1]",
            },
            "image_name": [record.name for record in records],
            "split": [record.split for record in records],
            "source_path": [record.source_path for record in records],
            "original_size": torch.tensor([record.original_size for record in records], dtype=torch.int32),
            "initial_latents": _stack([record.initial_latents for record in records]),
            "optimized_latents": _stack([record.optimized_latents for record in records]),
            "losses": [record.losses for record in records],
            "convergence_iteration": [record.convergence_iteration for record in records],
            "metrics": {name: torch.tensor([record.metrics[name] for record in records]) for name in METRICS},
        }
        if records[0].images:
            # (N, H, W, 3) uint8, as the pictures are in the other formats
            content["original_images"] = _stack([record.images["original"] for record in records])
        torch.save(content, self.temporary)
        torch.load(self.temporary, weights_only=True)  # raises where it would not open for a reader


def _stack(arrays: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays))
