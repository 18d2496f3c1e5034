"""WebDataset: tar shards, read by the `webdataset` package."""

import io
import json
import tarfile
from typing import Any

import numpy as np
from PIL import Image

from ...engine.records import Record
from ..base.sample_metadata import sample_metadata
from ..base.sharded import ShardedExporter

Sample = tuple[str, dict[str, bytes]]


class WebDatasetExporter(ShardedExporter):
    """Write `<split>-<number>.tar`, unscaled.

    A sample holds `latents.npy` (C, h, w) fp32, with --flip also `latents_flipped.npy`, `cls` (the label), `json`
    (name, path, metrics), `txt`, the caption, if there is one, and `png`, the picture, if the run kept it. Sample keys are numbers: the reader splits a file
    name at its first dot, so samples with names such as `img.v2` would be merged.
    """

    name = "webdataset"
    needs_classes = True

    def encode(self, record: Record) -> tuple[Sample, int]:
        label = self.label(record)
        files = {
            "latents.npy": _npy(self.stored(record.optimized_latents)),
            "json": json.dumps(
                sample_metadata(record)
                | {
                    "label": label,
                    "latents_scaled": self.latents_scaled,
                    "scaling_factor": self.header.vae["scaling_factor"],
                    "shift_factor": self.header.vae["shift_factor"],
                },
                ensure_ascii=False,
                allow_nan=False,
            ).encode(),
            "cls": str(label).encode(),
        }
        for view, outcome in record.all_views()[1:]:
            files[f"latents{view.suffix}.npy"] = _npy(self.stored(outcome.optimized_latents))
        if record.caption:
            files["txt"] = record.caption.encode()
        if record.images:
            files["png"] = png_bytes(record.images["original"])
        return (f"{self.counts.total():09d}", files), sum(len(content) + 1024 for content in files.values())

    def write_shard(self, split: str, number: int, samples: list[Any]) -> None:
        with self.new_file(f"{split}-{number:06d}.tar") as path, tarfile.open(path, "w") as tar:
            for key, files in samples:
                for field, content in files.items():
                    member = tarfile.TarInfo(f"{key}.{field}")  # mtime 0, so that exports are reproducible to the byte
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))

    def about(self) -> str:
        shards = "\n".join(f"- `{split}-{{000000..{count - 1:06d}}}.tar`" for split, count in self.shards.items())
        return (
            f"Shards:\n\n{shards}\n\n`webdataset.WebDataset(url).decode()` gives `latents.npy`, `json`, `cls` and the rest "
            "by these names."
        )


def _npy(array: np.ndarray) -> bytes:
    """Return an array in the .npy format."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def png_bytes(pixels: np.ndarray) -> bytes:
    """Encode pixels, uint8 (H, W, 3), as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()
