"""The extracted features that fast-DiT trains on: one latent and one label per picture."""

import numpy as np

from ...engine.records import Record
from ..base.folder import FolderExporter


class FastDiTExporter(FolderExporter):
    """Write one latent and one label file per picture, in fast-DiT's layout.

    `imagenet256_features/<i>.npy` (1, 4, h, w) fp32 **scaled**, z · scaling_factor, and `imagenet256_labels/<i>.npy`
    (1,) int64. The folder names are the trainer's, whatever the pictures are. The trainer lists a single folder, which
    may therefore hold more than 10,000 files.
    """

    name = "fast-dit"
    needs_square = True
    latents_scaled = True
    channels = 4
    needs_classes = True
    per_split = True

    def add(self, record: Record) -> None:
        folder, number = self.place(record), self.counts[record.split]
        with self.new_file(folder / "imagenet256_features" / f"{number}.npy") as path:
            np.save(path, self.stored(record.optimized_latents)[None])
        with self.new_file(folder / "imagenet256_labels" / f"{number}.npy") as path:
            np.save(path, np.array([self.label(record)], np.int64))

    def about(self) -> str:
        size = self.header.size or "SIZE"
        return (
            f"fast-DiT: `--feature-path` {self.where()},\n"
            f"`--image-size {size} --num-classes {len(self.header.classes)}`. Labels count `classes.json`. Mirrored latents have no place in it."
        )
