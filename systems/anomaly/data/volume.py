"""A volume of a data set: where it is and what is known of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .volume_reader import fit, read_volume, to_unit_range

NORMAL, ABNORMAL = 0, 1


@dataclass(frozen=True, eq=False)
class Volume:
    """One volume of a data set.

    name: the file's name, or one made of an archive's name, split and index. patient: the patient's id. label: `NORMAL`,
    `ABNORMAL`, or None where it is not known. source: the `.npy` file, or the (D, H, W) array of an archive. mask: the `.npy`
    file of booleans, true on the anomaly's voxels, where there is one.
    """

    name: str
    patient: str
    label: int | None
    source: Path | np.ndarray
    mask: Path | None = None

    def read(self, side: int | None = None) -> np.ndarray:
        """(D, H, W) float32 in [0, 1], as `read_volume` gives it. Raises VolumeError."""
        if isinstance(self.source, Path):
            return read_volume(self.source, side)
        return to_unit_range(fit(self.source, side) if side else self.source, self.name)

    def read_mask(self, side: int | None = None) -> np.ndarray | None:
        """(D, H, W) booleans, or None where there is no mask. Raises VolumeError."""
        return None if self.mask is None else read_volume(self.mask, side) > 0.5
