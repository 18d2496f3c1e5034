"""Small volumes with a bright cube as anomaly, and a mapper that needs no model."""

from pathlib import Path

import numpy as np
from relatent.systems.anomaly.data.volume import Volume
from relatent.systems.anomaly.data.volume_folder import add_to_index, read_folder
from relatent.systems.anomaly.maps.mapper import error_map

SIDE = 8


class LevelMapper:
    """The error against a constant: what is bright stands out."""

    method, side, device = "error", SIDE, "cpu"

    def __init__(self, name="constant"):
        self.name = name

    def identity(self):
        return {"model_sha256": self.name, "precision": "fp32"}

    def map(self, volumes):
        return [error_map(volume, np.full_like(volume, 0.25)) for volume in volumes]


def write_cubes(folder: Path, patients: int, seed: int = 0, side: int = SIDE) -> list[Volume]:
    """Two volumes for each patient, the first normal and the second with a cube of three voxels a side, and its mask."""
    (folder / "masks").mkdir(parents=True)
    rng, entries = np.random.default_rng(seed), {}
    for i in range(2 * patients):
        name, label = f"vol_s{seed}p{i // 2}_L{1 + i % 2}.npy", i % 2
        values, mask = rng.uniform(0.2, 0.3, (side,) * 3).astype(np.float32), np.zeros((side,) * 3, bool)
        if label:
            mask[tuple(slice(first, first + 3) for first in rng.integers(0, side - 3, 3))] = True
            np.save(folder / "masks" / name, mask)
        np.save(folder / name, values + np.float32(0.4) * mask)
        entries[name] = {"label": label}
    add_to_index(folder, entries, synthetic=True)
    return read_folder(folder)[0]
