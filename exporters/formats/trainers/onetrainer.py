"""The latent cache of OneTrainer (mgds `DiskCache`): one file per picture, numbered in the order of the trainer's listing."""

import os
import shutil
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch

from ....engine.errors import UsageError
from ....engine.records import Record
from ...base.folder import FolderExporter
from ...base.latent_spaces import latent_space
from ...files.tensor_files import save_pt

LISTED = frozenset([".bmp", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"])  # endings that the trainer lists
PASSED_OVER = ("-masklabel", "-condlabel")  # ends of the stems of files that are no pictures of their own
FRAMED = ("qwen", "wan21")  # spaces in which a picture is a clip of one frame
WAITING = ".waiting"


class OneTrainerExporter(FolderExporter):
    """Write `variation-0/<i>.pt` and `variation-0/aggregate.pt`, unscaled, one folder per split.

    Each file holds `latent_image` (C, h, w) fp32, with a time axis (C, 1, h, w) for Qwen-Image and Wan,
    `original_resolution` and `crop_offset` (height, width), and with --masks `latent_mask` (1, h, w) fp32 in [0, 1], with
    the same time axis.
    `aggregate.pt` lists `crop_resolution` (height, width) and `image_path` of every picture, in the order of i. The
    order is that in which the trainer lists the folder: of the paths, whatever the order of the run.
    """

    name = "onetrainer"
    needs_crop = True
    needs_classes = True  # for the splits
    per_split = True

    def open(self) -> None:
        super().open()
        # folder of the split -> path, number of the waiting file, height, width of each picture
        self.listed: dict[PurePosixPath, list[tuple[str, int, int, int]]] = {}
        self.waiting = 0
        self.unlisted: list[str] = []  # the first few sources that the trainer does not list
        self.passed = 0
        self.masked = False
        (self.temporary / WAITING).mkdir()

    def add(self, record: Record) -> None:
        path = PurePosixPath(record.source_path)
        if path.suffix.lower() not in LISTED or path.stem.endswith(PASSED_OVER):
            self.passed += 1
            self.unlisted += [record.source_path] if len(self.unlisted) < 20 else []
            return
        height, width = self.pixels(record)
        latents = torch.from_numpy(self.stored(self.planar(record.optimized_latents)))
        framed = latent_space(self.header.vae) in FRAMED
        item: dict[str, Any] = {
            "latent_image": latents[:, None] if framed else latents,
            "original_resolution": record.original_size,
            "crop_offset": crop_offset(record.original_size, (height, width)),
        }
        if record.mask is not None:
            self.masked = True
            mask = latent_mask(record.mask, tuple(latents.shape[-2:]))
            item["latent_mask"] = mask[:, None] if framed else mask
        save_pt(item, self.temporary / WAITING / f"{self.waiting}.pt")
        self.listed.setdefault(self.place(record), []).append((record.source_path, self.waiting, height, width))
        self.waiting += 1

    def finish(self) -> None:
        if not self.listed:
            raise UsageError("onetrainer: the trainer lists none of the pictures of this run, by their names")
        for folder, pictures in self.listed.items():
            pictures.sort()
            for index, (_, number, _, _) in enumerate(pictures):
                with self.new_file(folder / "variation-0" / f"{index}.pt") as path:
                    os.replace(self.temporary / WAITING / f"{number}.pt", path)
            aggregate = [
                {"crop_resolution": (height, width), "image_path": source} for source, _, height, width in pictures
            ]
            with self.new_file(folder / "variation-0" / "aggregate.pt") as path:
                save_pt(aggregate, path)
        shutil.rmtree(self.temporary / WAITING)
        if self.passed:
            listed = ", ".join(repr(source) for source in self.unlisted)
            self.notes.append(f"pictures that the trainer does not list, which are left out: {self.passed}: {listed}")

    def about(self) -> str:
        return ABOUT.format(
            size=self.size_text(), where=self.where(), masks="on" if self.masked else "off: the run had no --masks"
        )  # fmt: skip


def crop_offset(original: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int]:
    """Return the offset of the crop in the scaled picture, as OneTrainer computes it; all are (height, width), pixels."""
    if original[0] / original[1] > crop[0] / crop[1]:  # taller than the crop: cut above and below
        scaled = (round(original[0] * (crop[1] / original[1])), crop[1])
    else:
        scaled = (crop[0], round(original[1] * (crop[0] / original[0])))
    return (scaled[0] - crop[0]) // 2, (scaled[1] - crop[1]) // 2


def latent_mask(mask: np.ndarray, size: tuple[int, ...]) -> torch.Tensor:
    """Scale a mask, uint8 (H, W), down to `size`, (h, w) of the latents, bilinearly: (1, h, w) fp32 in [0, 1]."""
    from torchvision.transforms.functional import resize

    return resize(torch.from_numpy(mask)[None].float() / 255.0, list(size), antialias=True)


ABOUT = """OneTrainer keeps the latents of a concept in `<cache directory>/image/<hash>/variation-0/`, where the hash covers the concept's
path, seed and image settings, and its version's more. Copy what is in `variation-0/` of {where} there:

1. Make a concept of the folder of pictures that the run read (its split's, where there are splits), "include subdirectories"
   on where it has any. Switch off crop jitter, random flips and every other augmentation; one image variation.
2. Set the resolution to {size} with aspect ratio bucketing off; for a run with `--buckets onetrainer:RESO` to RESO with it on.
   Latent caching on, "clear cache before training" off. Masked training {masks}.
3. Start, and stop as soon as it says that it is caching: `image/<hash>/variation-0/` exists. Empty it and copy these files into
   it. Start again: a folder with `aggregate.pt` counts as complete, and nothing is encoded.

**The numbers are the order of the trainer's own listing**, and it checks nothing: it must list exactly the pictures of
`aggregate.pt`, in this order. Pictures that failed in the run, or were added since, have to be moved out of the folder first,
or all latents behind them belong to other captions. Here paths are sorted as on Linux and macOS.
"""
