"""The format of `datasets.load_dataset` and the Hugging Face Hub: HDF5 shards and a dataset card."""

from typing import Any

from ...engine.inputs.sources import DEFAULT_SPLIT
from ...engine.records import Record
from ..base.sharded import ShardedExporter
from ..hdf5.exporter import HDF5Exporter

SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


class HuggingFaceExporter(ShardedExporter):
    """Write `data/<split>-<number>.h5` in the schema of `dataset.h5`, unscaled, and `README.md`, the dataset card.

    The shards are read by `datasets` itself (4.4 or later). Pictures outside train, val and test become the split
    `train`, or `other` if the run has a split `train` too: `all` is a reserved word of `datasets`.
    """

    name = "hf"
    needs_classes = True

    def group_of(self, record: Record) -> Any:
        return record.optimized_latents.shape

    def encode(self, record: Record) -> tuple[Record, int]:
        pictures = sum(picture.nbytes for picture in record.images.values())
        return record, 2 * record.optimized_latents.nbytes * len(record.all_views()) + pictures

    def write_shard(self, split: str, number: int, samples: list[Any]) -> None:
        name = f"data/{self._split(split)}-{number:05d}.h5"
        with self.new_file(name) as path, HDF5Exporter(path, self.header) as exporter:
            exporter.write(samples)

    def _split(self, split: str) -> str:
        """Return the name of a split in the dataset."""
        if split != DEFAULT_SPLIT:
            return split
        return "train" if self.header.splits == (DEFAULT_SPLIT,) else "other"

    def readme(self) -> str:
        total = self.counts.total()
        size = next((name for limit, name in SIZES if total < limit), "n>10M")
        files = "".join(
            f"  - split: {self._split(split)}\n    path: data/{self._split(split)}-*.h5\n" for split in self.counts
        )
        return CARD.format(size=size, files=files) + super().readme()

    def about(self) -> str:
        vae = self.header.vae
        known = {
            "repository": vae["repository"],
            "revision": vae["revision"],
            "weights, SHA-256": vae["weights_sha256"],
        }
        identity = ", ".join(f"{label} `{value}`" for label, value in known.items() if value)
        return ABOUT.format(name=vae["name"], identity=identity or "of unknown weights")


CARD = """---
pretty_name: Optimised latents
license: unknown
task_categories:
- unconditional-image-generation
- image-to-image
tags:
- latents
- vae
- relatent
size_categories:
- {size}
configs:
- config_name: default
  data_files:
{files}---

"""

ABOUT = """```python
from datasets import load_dataset

dataset = load_dataset("FOLDER_OR_REPOSITORY")
```

**License.** `unknown` above stands for the pictures' licence, which is yours to fill in: latents can be decoded to the
pictures they were made of.

**Where it comes from.** Latents found for the decoder of `{name}` ({identity}). Columns: `image_name`, `split`, `source_path`,
`original_size`, `caption` (the text beside the picture), `initial_latents` (the encoder's), `optimized_latents`, `losses`, `iterations`, `metrics`, `images` where
the run kept them, and with --flip the same again for the mirrored pictures, `…_flipped`. Each file's attributes say of
which run it is.
"""
