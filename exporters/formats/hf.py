"""The format of `datasets.load_dataset` and the Hugging Face Hub: HDF5 shards and a dataset card."""

from pathlib import PurePosixPath
from typing import Any

from ...engine.inputs.sources import DEFAULT_SPLIT
from ...engine.records import Record
from ..base.sharded import ShardedExporter
from ..hdf5.by_size import target_size
from ..hdf5.exporter import ShardExporter

SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


class HuggingFaceExporter(ShardedExporter):
    """Write `data/<split>-<number>.h5` in the schema of `dataset.h5`, unscaled, and `README.md`, the dataset card.

    The shards are read by `datasets` itself (4.4 or later). Pictures outside train, val and test become the split
    `train`, or `other` if the run has a split `train` too: `all` is a reserved word of `datasets`. Pictures of several
    sizes lie in `data/<width>x<height>/`, and each size is a configuration of the dataset, since `datasets` reads
    columns of one shape.
    """

    one_shape = True

    name = "hf"
    needs_classes = True

    def open(self) -> None:
        super().open()
        self.folders: dict[str, list[str]] = {}  # splits by folder, in the order of the shards

    def encode(self, record: Record) -> tuple[Record, int]:
        pictures = sum(picture.nbytes for picture in record.images.values())
        return record, 2 * record.optimized_latents.nbytes * len(record.all_views()) + pictures

    def write_shard(self, split: str, number: int, samples: list[Any]) -> None:
        folder = "data"
        if self.header.settings is not None and self.header.settings.size is None:
            width, height = target_size(samples[0].optimized_latents.shape, self.header.vae)
            folder = f"data/{width}x{height}"
        found = self.folders.setdefault(folder, [])
        if split not in found:
            found.append(split)
        with (
            self.new_file(f"{folder}/{self._split(split)}-{number:05d}.h5") as path,
            ShardExporter(path, self.header) as exporter,
        ):
            exporter.write(samples)

    def _split(self, split: str) -> str:
        """Return the name of a split in the dataset."""
        if split != DEFAULT_SPLIT:
            return split
        return "train" if self.header.splits == (DEFAULT_SPLIT,) else "other"

    def readme(self) -> str:
        total = self.counts.total()
        size = next((name for limit, name in SIZES if total < limit), "n>10M")
        configurations = ""
        for folder, splits in self.folders.items():
            name = "default" if folder == "data" else PurePosixPath(folder).name
            configurations += f"- config_name: {name}\n  data_files:\n" + "".join(
                f"  - split: {self._split(split)}\n    path: {folder}/{self._split(split)}-*.h5\n" for split in splits
            )
        return CARD.format(size=size, configurations=configurations) + super().readme()

    def about(self) -> str:
        vae = self.header.vae
        known = {
            "repository": vae["repository"],
            "revision": vae["revision"],
            "weights, SHA-256": vae["weights_sha256"],
        }
        identity = ", ".join(f"{label} `{value}`" for label, value in known.items() if value)
        return ABOUT.format(
            name=vae["name"], identity=identity or "of unknown weights", configuration=self._first_configuration()
        )

    def _first_configuration(self) -> str:
        """Return the argument that chooses a configuration; empty where there is one."""
        first = next(iter(self.folders), "data")
        return "" if first == "data" else f', "{PurePosixPath(first).name}"'


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
{configurations}---

"""

ABOUT = """```python
from datasets import load_dataset

dataset = load_dataset("FOLDER_OR_REPOSITORY"{configuration})
```

**License.** `unknown` above stands for the pictures' licence, which is yours to fill in: latents can be decoded to the
pictures they were made of.

**Where it comes from.** Latents found for the decoder of `{name}` ({identity}). Columns: `image_name`, `split`, `source_path`,
`original_size`, `caption` (the text beside the picture), `initial_latents` (the encoder's), `optimized_latents`, `losses`, `iterations`, `metrics`, `images` where
the run kept them, and with --flip the same again for the mirrored pictures, `…_flipped`. Each file's attributes say of
which run it is.
"""
