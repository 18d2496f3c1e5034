"""The preprocessed data of REPA: pictures, moments of their latents, and labels."""

import json

import numpy as np
from PIL import Image

from ...engine.records import Record
from ..base.folder import FolderExporter


class REPAExporter(FolderExporter):
    """Write pictures, moments and labels in the layout of REPA's preprocessing, a thousand pictures per folder.

    `images/00000/img00000000.png`; `vae-sd/00000/img-mean-std-00000000.npy` (8, h, w) fp32 unscaled, the latent and its
    standard deviation, 0; and `vae-sd/dataset.json`, the labels.
    """

    name = "repa"
    needs_square = True
    needs_images = True
    channels = 4
    needs_classes = True
    per_split = True
    consumer_factors = (0.18215,)

    def open(self) -> None:
        super().open()
        self.listed: dict[str, list[int]] = {}  # labels by the folder of the split

    def add(self, record: Record) -> None:
        folder = self.place(record)
        labels = self.listed.setdefault(folder.as_posix(), [])
        number = f"{len(labels):08d}"
        mean = self.stored(record.optimized_latents)
        with self.new_file(folder / "images" / number[:5] / f"img{number}.png") as path:
            Image.fromarray(record.images["original"]).save(path)
        with self.new_file(folder / "vae-sd" / _feature(number)) as path:
            np.save(path, np.concatenate([mean, np.zeros_like(mean)]))
        labels.append(self.label(record))

    def finish(self) -> None:
        for folder, labels in self.listed.items():
            pairs = [[_feature(f"{i:08d}"), label] for i, label in enumerate(labels)]
            self.write_text(f"{folder}/vae-sd/dataset.json", json.dumps({"labels": pairs}) + "\n")

    def about(self) -> str:
        return f"REPA: `--data-dir` {self.where()}, `--num-classes {len(self.header.classes)}`.\nIts training script takes pictures of 256 × 256 pixels. Labels count `classes.json`."


def _feature(number: str) -> str:
    """Return the path of the moments of a picture, relative to `vae-sd`."""
    return f"{number[:5]}/img-mean-std-{number}.npy"
