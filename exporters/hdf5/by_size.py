"""HDF5 files of samples of several sizes: one group per size holds the latents and pictures, the root a table of all.

A sample's row of the table states its `size`, (width, height) of its target in pixels, and `size_row`, its row in the
columns of the group `sizes/WIDTHxHEIGHT`. In a file of one size all columns lie in the root.
"""

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from ...engine.inputs.sizes import Size
from ...engine.inputs.views import VIEWS

GROUP = "sizes"
LATENTS = ("initial_latents", "optimized_latents")
MASK = "mask"


def group_name(size: Size) -> str:
    """Return the name of the group of a size, without a slash at its end."""
    return f"{GROUP}/{size[0]}x{size[1]}"


def target_size(latents_shape: tuple[int, ...], vae: dict[str, Any]) -> Size:
    """Return the (width, height) in pixels of the target of latents (C, h, w), for an autoencoder of that identity."""
    cell = vae["downscale_factor"] or 1
    return latents_shape[-1] * cell, latents_shape[-2] * cell


def depends_on_size(name: str) -> bool:
    """Return whether the shape of a column's samples follows from the size: latents, pictures and masks of all views."""
    return (
        name == MASK
        or name.startswith("images/")
        or any(name.removesuffix(view.suffix) in LATENTS for view in VIEWS.values())
    )


def has_sizes(file: h5py.File) -> bool:
    """Return whether a file holds samples of several sizes."""
    return GROUP in file


def size_groups(file: h5py.File) -> list[str]:
    """Return the names of the groups that hold columns of samples: those of all sizes, or "" for the root."""
    return [f"{GROUP}/{name}/" for name in file[GROUP]] if has_sizes(file) else [""]


class SizeTable:
    """Where each sample of a file lies, held in memory: 12 bytes a sample for several sizes, nothing for one."""

    def __init__(self, file: h5py.File):
        self.sizes: np.ndarray | None = file["size"][:] if has_sizes(file) else None  # (N, 2) int32, width and height
        self.rows: np.ndarray | None = file["size_row"][:] if has_sizes(file) else None  # (N,) int32

    def place(self, name: str, index: int) -> tuple[str, int]:
        """Return the full name of the column `name` that holds sample `index`, and the row in it."""
        if self.sizes is None or self.rows is None or not depends_on_size(name):
            return name, index
        width, height = self.sizes[index]
        return f"{group_name((int(width), int(height)))}/{name}", int(self.rows[index])

    def indices(self, group: str) -> np.ndarray:
        """Return the indices of the samples of a group, in the order of its rows."""
        if self.sizes is None or self.rows is None:
            raise ValueError("the file has one size, and no groups")
        width, height = map(int, group.strip("/").rpartition("/")[2].split("x"))
        found = np.flatnonzero((self.sizes[:, 0] == width) & (self.sizes[:, 1] == height))
        return found[np.argsort(self.rows[found], kind="stable")]


def read_samples(file: h5py.File, name: str, rows: slice) -> Any:
    """Return samples of a column that depends on the size: an array, or a list of arrays where sizes differ."""
    if not has_sizes(file):
        return file[name][rows]
    found = zip(file["size"][rows], file["size_row"][rows], strict=True)
    return [file[f"{group_name((int(width), int(height)))}/{name}"][int(row)] for (width, height), row in found]


def read_masks(file: h5py.File, rows: slice) -> list[np.ndarray | None]:
    """Return the masks (H, W) of samples; None for those whose group has none."""
    if not has_sizes(file):
        return list(file[MASK][rows]) if MASK in file else [None] * len(file["image_name"][rows])
    found: list[np.ndarray | None] = []
    for (width, height), row in zip(file["size"][rows], file["size_row"][rows], strict=True):
        group = file[group_name((int(width), int(height)))]
        found.append(group[MASK][int(row)] if MASK in group else None)
    return found


def picture_names(file: h5py.File) -> Iterator[str]:
    """Yield the names of the stored pictures: those of `engine.records.IMAGES`, or fewer."""
    first = size_groups(file)[0]
    yield from file.get(f"{first}images", ())


def latent_sizes(file: h5py.File, table: SizeTable) -> list[Size]:
    """Return the (width, height) of each sample's latents, in latent cells."""
    found: list[Size] = [(0, 0)] * len(file["image_name"])
    for group in size_groups(file):
        height, width = file[f"{group}optimized_latents"].shape[-2:]
        for index in table.indices(group) if group else range(len(found)):
            found[index] = (width, height)
    return found
