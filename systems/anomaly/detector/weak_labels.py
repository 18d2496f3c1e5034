"""Weak labels of volumes: a box or a range of slices that the anomaly lies in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.errors import VolumeError
from ..data.volume import ABNORMAL, Volume
from ..data.volume_folder import read_index
from ..data.volume_reader import fit

Box = tuple[tuple[int, int, int], tuple[int, int, int]]
ENTRIES = {"boxes": "box", "slices": "slices"}  # kinds of labels -> entries of volumes.json


def box_of(mask: np.ndarray, margin: int = 0) -> Box:
    """The smallest box round the true voxels of a (D, H, W) mask, and `margin` voxels more on each side inside the volume.

    First voxel, and the one behind the last. Raises VolumeError for a mask without a true voxel.
    """
    places = np.argwhere(mask)
    if not len(places):
        raise VolumeError("the mask has no voxel: label the volume 0 if it is normal")
    start, stop = np.maximum(places.min(0) - margin, 0), np.minimum(places.max(0) + 1 + margin, mask.shape)
    return tuple(start.tolist()), tuple(stop.tolist())


def slices_of(mask: np.ndarray, margin: int = 0) -> tuple[int, int]:
    """The slices of axis D with true voxels, as `box_of`: the first one, and the one behind the last."""
    start, stop = box_of(mask, margin)
    return start[0], stop[0]


def region_of(box: Box, shape: Sequence[int], name: str) -> np.ndarray:
    """(D, H, W) booleans, true inside the box. Raises VolumeError, with the volume's `name`, for a box outside the volume."""
    start, stop = box
    if not all(0 <= first < last <= size for first, last, size in zip(start, stop, shape, strict=True)):
        raise VolumeError(
            f"{name}: {start} to {stop} is no box in a volume of {tuple(shape)} voxels: correct the label"
        )
    region = np.zeros(shape, bool)
    region[tuple(map(slice, start, stop))] = True
    return region


class WeakLabels:
    """Regions of the volumes' anomalies, from their entries in volumes.json or, without one, from their masks."""

    def __init__(self, kind: str, side: int, margin: int = 0) -> None:
        """kind: `boxes` or `slices`. side: voxels of the volumes as the network gets them. margin: of regions from masks."""
        self.kind, self.side, self.margin = kind, side, margin
        self._indexes: dict[Path, dict[str, Any]] = {}

    def region(self, volume: Volume) -> np.ndarray:
        """(side, side, side) booleans, true where the anomaly may be; false everywhere in a volume that is not abnormal.

        Cropped and padded as the volume is. Raises VolumeError for an abnormal volume with neither an entry nor a mask, and for
        a label that does not fit the volume or lies outside what the crop leaves of it.
        """
        if volume.label != ABNORMAL:
            return np.zeros((self.side,) * 3, bool)
        entry = self._entry(volume)
        if entry is None and (mask := volume.read_mask()) is not None:
            try:
                box = box_of(mask, self.margin)
            except VolumeError as error:
                raise VolumeError(f"{volume.name}: {error}") from None
            shape = mask.shape
            if self.kind == "slices":
                box = (box[0][0], 0, 0), (box[1][0], shape[1], shape[2])
        elif entry is None:
            raise VolumeError(
                f"{volume.name} is abnormal and has neither {ENTRIES[self.kind]} in volumes.json nor a mask: add one of them"
            )
        else:
            shape = volume.read().shape
            box = self._box_of_entry(entry, shape, volume.name)
        region = fit(region_of(box, shape, volume.name), self.side)
        if not region.any():
            raise VolumeError(
                f"{volume.name}: its label lies outside the {self.side} voxels a side: choose a larger side"
            )
        return region

    def _entry(self, volume: Volume) -> Any:
        if not isinstance(volume.source, Path):
            return None
        folder = volume.source.parent
        if folder not in self._indexes:
            self._indexes[folder] = read_index(folder)["volumes"]
        return self._indexes[folder].get(volume.name, {}).get(ENTRIES[self.kind])

    def _box_of_entry(self, entry: Any, shape: tuple[int, ...], name: str) -> Box:
        form = "[[d0, h0, w0], [d1, h1, w1]]" if self.kind == "boxes" else "[d0, d1]"
        try:
            if self.kind == "slices":
                (first, last), entry = entry, None
                entry = [[first, 0, 0], [last, *shape[1:]]]
            start, stop = (tuple(corner) for corner in entry)
            whole = all(isinstance(one, int) and not isinstance(one, bool) for one in (*start, *stop))
            if len(start) != 3 or len(stop) != 3 or not whole:
                raise ValueError
        except (TypeError, ValueError):
            raise VolumeError(
                f"{name}: expected {ENTRIES[self.kind]} in volumes.json as {form}, whole numbers of voxels"
            ) from None
        return start, stop
