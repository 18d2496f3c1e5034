"""The latent cache of MAR: one file per picture, in one folder per class."""

from collections import Counter

import numpy as np

from ...engine.records import Record
from ..base.folder import FolderExporter
from ..base.labels import class_of

LOG_VARIANCE = -30.0  # log-variance of a point: the lower limit in the trainer
PER_FOLDER = 10_000  # maximum number of files per folder


class MARExporter(FolderExporter):
    """Write `<class>/<name>.npz`, unscaled, with `moments` and `moments_flip`, (2C, h, w) fp32.

    The moments are the latent and its log-variance, −30. Requires --flip: the trainer reads either array at random.
    """

    name = "mar"
    needs_square = True
    needs_flip = True
    needs_classes = True
    per_split = True
    consumer_factors = (0.2325,)

    def open(self) -> None:
        super().open()
        self.filled: Counter[str] = Counter()
        self.labelled = True  # the folder names are the labels

    def add(self, record: Record) -> None:
        folder = self.place(record) / class_of(record)
        full, self.filled[str(folder)] = self.filled[str(folder)] // PER_FOLDER, self.filled[str(folder)] + 1
        folder = folder / f"{full:05d}" if full else folder  # the trainer's reader descends into subfolders
        with self.new_file(folder / f"{record.name}.npz") as path, path.open("wb") as file:
            np.savez(
                file,
                moments=self._moments(record.optimized_latents),
                moments_flip=self._moments(self.mirrored(record).optimized_latents),
            )

    def _moments(self, latents: np.ndarray) -> np.ndarray:
        """Return the moments (2C, h, w) fp32 of latents (C, h, w)."""
        mean = self.stored(latents)
        return np.concatenate([mean, np.full_like(mean, LOG_VARIANCE)])

    def about(self) -> str:
        return (
            f"MAR: `--use_cached --cached_path` {self.where()}, with\n"
            f"`--vae_embed_dim {self.header.vae['latent_channels']} --vae_stride {self.header.vae['downscale_factor']}` and\n"
            f"`--class_num {len(self.header.classes)}`. Labels are the sorted folders', as in `classes.json` where all splits have all classes."
        )
