"""PyTorch: one `.pt` file of plain tensors, strings and numbers, for datasets that fit in memory."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...engine.autoencoders.files.weights import load_plain
from ...engine.errors import UsageError
from ...engine.records import METRICS, Outcome, Record, outcomes_by_view
from ...engine.runtime.memory import available_memory
from ..base.exporter import SCHEMA, Exporter
from ..files.tensor_files import save_pt
from ..hdf5.columns import columns
from ..hdf5.reading import open_file
from ..summaries.statistics import metric_statistics

COPIES = 2  # copies in memory: the separate samples, and the stacked tensors
SHARE = 0.5  # maximum share of the available memory


def check_memory(samples: int, limit: int | None = None) -> None:
    """Raise `UsageError` if making a `.pt` with so many bytes of samples would need more than `limit` bytes of memory.

    limit: bytes; None uses half of the available memory.
    """
    if limit is None:
        available = available_memory()
        if available is None:
            return
        limit = int(SHARE * available)
    needed = COPIES * samples
    if needed > limit:
        raise UsageError(
            f"pt holds everything in memory: it needs {needed / 2**30:.1f} GiB here, of {limit / 2**30:.1f} GiB that it "
            "may take; use hdf5, which load_optimized_dataset opens the same way"
        )


def shard_bytes(shards: Sequence[Path]) -> int:
    """Return the number of bytes of samples that a `.pt` of these shards would hold."""
    return sum(map(_sample_bytes, shards))


def _sample_bytes(shard: Path) -> int:
    """Return the number of bytes of the columns of a shard that a `.pt` holds."""
    with open_file(shard) as file:
        return sum(
            column.nbytes
            for column in columns(file)
            if column.dtype.kind in "fiu" and column.name not in ("/images/initial", "/images/optimized")
        )


class PTExporter(Exporter):
    """Write a file that loads with `torch.load(weights_only=True)`.

    The tensors are stacked: sample i of each belongs to image_name[i]. Where samples have several sizes, latents and
    pictures are lists of tensors instead.
    """

    streams = False  # it holds the whole run in memory

    @classmethod
    def run_began(cls, place: Path) -> str | None:
        try:
            metadata = load_plain(place, mmap=True)["metadata"]
            return str(metadata["creation_timestamp"]) if metadata["schema"] == SCHEMA else None
        except (ValueError, LookupError, TypeError):  # it cannot be read, or is of something else
            return None

    @classmethod
    def check_capacity(cls, sample_bytes: int) -> None:
        check_memory(sample_bytes)

    @classmethod
    def check_shards(cls, shards: Sequence[Path]) -> None:
        check_memory(shard_bytes(shards))

    def open(self) -> None:
        self.records: list[Record] = []

    def write(self, records: list[Record]) -> None:
        for record in records:
            original = {name: pixels for name, pixels in record.images.items() if name == "original"}
            self.records.append(dataclasses.replace(record, images=original))  # others are not stored: free them now

    def close(self) -> None:
        records, header = self.records, self.header
        if not records:
            raise UsageError("nothing to write: the run has no finished picture")
        content: dict[str, Any] = {
            "metadata": {
                "schema": SCHEMA,
                "total_samples": len(records),
                "optimization_config": header.config,
                "processing_statistics": {},  # filled in below, as are those of the other views
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
            "source_sha256": [record.source_sha256 for record in records],
            "caption": [record.caption for record in records],
            "original_size": torch.tensor([record.original_size for record in records], dtype=torch.int32),
        }
        for view, outcomes in outcomes_by_view(records):
            statistics = metric_statistics([outcome.metrics for outcome in outcomes])
            content["metadata"][f"processing_statistics{view.suffix}"] = statistics
            content |= _outcomes(outcomes, view.suffix)
        if records[0].images:
            # (N, H, W, 3) uint8, as the pictures are in the other formats
            content["original_images"] = _stack([record.images["original"] for record in records])
        save_pt(content, self.temporary)
        torch.load(self.temporary, weights_only=True, mmap=True)  # raises if the file cannot be loaded


def _outcomes(outcomes: Sequence[Outcome], suffix: str) -> dict[str, Any]:
    """Return the columns of one view, with `suffix` appended to their names."""
    return {
        f"initial_latents{suffix}": _stack([outcome.initial_latents for outcome in outcomes]),
        f"optimized_latents{suffix}": _stack([outcome.optimized_latents for outcome in outcomes]),
        f"losses{suffix}": [outcome.losses for outcome in outcomes],
        f"convergence_iteration{suffix}": [outcome.convergence_iteration for outcome in outcomes],
        f"metrics{suffix}": {name: torch.tensor([outcome.metrics[name] for outcome in outcomes]) for name in METRICS},
    }


def _stack(arrays: list[np.ndarray]) -> torch.Tensor | list[torch.Tensor]:
    """Stack arrays of one shape into a tensor (N, …); return a list of tensors where there are several shapes."""
    if len({array.shape for array in arrays}) > 1:
        return [torch.from_numpy(array.copy()) for array in arrays]
    return torch.from_numpy(np.stack(arrays))
