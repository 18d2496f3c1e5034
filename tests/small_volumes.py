"""Volumes of 32³ with folds, and the overrides of a training on them."""

import json
from pathlib import Path

import numpy as np

SMALL = [
    "model.hidden_channels=[4,4,8,8]",
    "model.embedding_dim=8",
    "dataset.volume_size=32",
    "training.accelerator=cpu",
]


def write_volumes(folder: Path) -> list[str]:
    """Eight volumes of noise, of four patients in three folds; the overrides that name them, and a small model."""
    rng, entries = np.random.default_rng(0), {}
    folder.mkdir()
    for patient in range(4):
        for level in ("T12", "L1"):
            name = f"vol_p{patient}_{level}.npy"
            np.save(folder / name, rng.random((32, 32, 32), dtype=np.float32))
            entries[name] = {"label": 0}
    (folder / "volumes.json").write_text(json.dumps({"schema": 1, "synthetic": True, "volumes": entries}))
    (folder / "folds.json").write_text(json.dumps({"folds": [["p0"], ["p1"], ["p2", "p3"]], "held_out": []}))
    return [f"dataset.data_dir={folder}", f"dataset.folds_file={folder}/folds.json", *SMALL]
