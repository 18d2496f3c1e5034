"""Small maps of synthetic vertebrae by a method that is known, and small archives and checkpoints."""

from pathlib import Path

import numpy as np
import torch
from relatent.systems.anomaly.data.procedural import write_procedural
from relatent.systems.anomaly.data.volume_folder import read_folder
from relatent.systems.anomaly.maps.mapper import MappedVolume
from relatent.systems.anomaly.maps.run import write_maps
from tiny_vqvae import save_checkpoint

SIDE = 16


class LevelMapper:
    """The distance from a level as the map, with the scores `mean_error` and `max_error`."""

    method, side = "error", SIDE

    def __init__(self, level: float = 0.1) -> None:
        self.level = level

    def identity(self):
        return {"level": self.level, "model_sha256": "0" * 64}

    def map(self, volumes):
        errors = [np.abs(volume - np.float32(self.level)) for volume in volumes]
        level = np.full((SIDE,) * 3, self.level, np.float32)
        return [
            MappedVolume(one, level, {"mean_error": float(one.mean()), "max_error": float(one.max())}) for one in errors
        ]


def make_maps(folder: Path, seed: int, count: int = 12, mapper: LevelMapper | None = None, **options) -> Path:
    """Of `count` synthetic vertebrae, half of them abnormal, with masks."""
    write_procedural(folder / "volumes", count, seed, SIDE)
    volumes, _ = read_folder(folder / "volumes")
    write_maps(folder / "maps", volumes, mapper or LevelMapper(), **({"synthetic": True} | options))
    return folder / "maps"


def make_checkpoint(path: Path, **more) -> Path:
    """Of a tiny model with random weights, for volumes of 16³, with these entries beside its own."""
    save_checkpoint(path, dataset={"volume_size": SIDE})
    torch.save(torch.load(path, weights_only=True) | more, path)
    return path


def make_archive(path: Path, *splits: str, count: int = 12) -> Path:
    """Of MedMNIST's layout: binary cubes, the abnormal third of them larger."""
    arrays = {}
    for seed, split in enumerate(splits):
        rng, labels = np.random.default_rng(seed), np.arange(count) % 3 == 0
        images = np.zeros((count, SIDE, SIDE, SIDE), np.uint8)
        for image, label in zip(images, labels, strict=True):
            half = int(rng.integers(3, 6)) + 2 * int(label)
            image[8 - half : 8 + half, 8 - half : 8 + half, 8 - half : 8 + half] = 1
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None].astype(np.uint8)}
    np.savez(path, **arrays)
    return path
