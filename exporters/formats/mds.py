"""MDS: shards of MosaicML Streaming, with the columns that its diffusion trainer reads.

The writer is implemented here: the format is small, and the library cannot be installed beside current versions of the
Hugging Face packages. The library's reader opens these files (tests/exporters/formats/test_trainer_formats.py).

Layout of a shard, in little-endian uint32: the number of samples n, then n + 1 offsets from the start of the file;
then JSON that names the columns; then the samples. Each sample holds the sizes of its columns of variable size, then
the bytes of the columns in the order of their names.
"""

import json
from typing import Any

import numpy as np

from ...engine.records import Record
from ..base.sample_metadata import sample_metadata
from ..base.sharded import ShardedExporter
from ..hdf5.by_size import target_size
from .webdataset import png_bytes

FIXED = {"int32": 4, "int64": 8, "float64": 8}  # bytes of the encodings of fixed size


class MDSExporter(ShardedExporter):
    """Write `index.json` and `shard.<number>.mds`, one folder per split.

    Latents are **scaled**, z · scaling_factor, as raw fp16 bytes of (C, h, w) in the column `latents_<size>`; with
    --flip also in `latents_<size>_flipped`. Where pictures are not squares of one size, the column is called `latents`.
    """

    name = "mds"
    latents_scaled = True
    needs_classes = True
    per_split = True
    shard_bytes = 1 << 26  # bytes, the library's default

    def open(self) -> None:
        super().open()
        self.index: dict[str, list[dict[str, Any]]] = {}
        self.columns: dict[str, str] = {}
        self.folders: dict[str, str] = {}

    def encode(self, record: Record) -> tuple[bytes, int]:
        columns = self._columns(record)
        if not self.columns:
            self.columns = {name: encoding for name, (encoding, _) in sorted(columns.items())}
        self.folders[record.split] = self.place(record).as_posix()
        data = [_encode(*columns[name]) for name in self.columns]
        sizes = [len(part) for part, kind in zip(data, self.columns.values(), strict=True) if kind not in FIXED]
        sample = np.array(sizes, "<u4").tobytes() + b"".join(data)
        return sample, len(sample) + 4

    def _columns(self, record: Record) -> dict[str, tuple[str, Any]]:
        """Return the encoding and the value of each column of a picture, by name."""
        shape = record.optimized_latents.shape
        target_width, target_height = target_size(shape, self.header.vae)
        several = self.header.settings is not None and self.header.settings.size is None
        column = "latents" if several or target_width != target_height else f"latents_{target_width}"
        height, width = record.original_size
        columns: dict[str, tuple[str, Any]] = {
            "latents_shape": ("json", list(shape)),
            "scaling_factor": ("float64", self.header.vae["scaling_factor"]),
            "caption": ("str", record.caption),
            "label": ("int64", self.label(record)),
            "name": ("str", record.name),
            "source_path": ("str", record.source_path),
            "split": ("str", record.split),
            "width": ("int32", target_width),
            "height": ("int32", target_height),
            "original_width": ("int32", width),
            "original_height": ("int32", height),
            "facts": ("json", sample_metadata(record)),
        }
        for view, outcome in record.all_views():
            columns[f"{column}{view.suffix}"] = ("bytes", self._fp16(outcome.optimized_latents))
        if record.images:
            columns["jpg"] = ("bytes", png_bytes(record.images["original"]))
        return columns

    def _fp16(self, latents: np.ndarray) -> bytes:
        """Return latents (C, h, w) as stored, as little-endian fp16 bytes."""
        return self.stored(latents).astype("<f2").tobytes()

    def write_shard(self, split: str, number: int, samples: list[Any]) -> None:
        config = {
            "version": 2,
            "format": "mds",
            "compression": None,
            "hashes": [],
            "size_limit": self.shard_bytes,
            "column_names": list(self.columns),
            "column_encodings": list(self.columns.values()),
            "column_sizes": [FIXED.get(kind) for kind in self.columns.values()],
        }
        head = json.dumps(config, sort_keys=True).encode()
        starts = np.cumsum([4 + 4 * (len(samples) + 1) + len(head), *map(len, samples)]).astype("<u4")
        name = f"shard.{number:05d}.mds"
        with self.new_file(f"{self.folders[split]}/{name}") as path, path.open("wb") as file:
            file.write(np.array([len(samples)], "<u4").tobytes() + starts.tobytes() + head)
            file.writelines(samples)
        raw = {"basename": name, "bytes": int(starts[-1]), "hashes": {}}
        entry = {**config, "samples": len(samples), "raw_data": raw, "zip_data": None}
        self.index.setdefault(split, []).append(entry)

    def finish(self) -> None:
        super().finish()
        for split, shards in self.index.items():
            self.write_text(
                f"{self.folders[split]}/index.json", json.dumps({"version": 2, "shards": shards}, sort_keys=True)
            )

    def about(self) -> str:
        return (
            f"`streaming.StreamingDataset(local=FOLDER)` reads {self.where()}; MosaicML's diffusion trainer takes it as\n"
            "`local`, with `image_size` the size in the columns' names. It reads `caption`, the text beside\n"
            "the picture, and `jpg`: the picture (a PNG), absent with --no-images. Its loader expects 4 channels."
        )


def _encode(kind: str, value: Any) -> bytes:
    """Encode a value as bytes in the MDS encoding `kind`."""
    if kind in FIXED:
        return np.array([value], {"int32": "<i4", "int64": "<i8", "float64": "<f8"}[kind]).tobytes()
    if kind == "bytes":
        return bytes(value)
    return (json.dumps(value, allow_nan=False) if kind == "json" else str(value)).encode()
