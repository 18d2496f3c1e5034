"""Tiny 3-D VQ-VAEs as checkpoints, and files of small volumes for them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from relatent.systems.anomaly.model.vqvae import build_vqvae_3d

CONFIG = {"hidden_channels": [4, 4, 8], "embedding_dim": 8, "num_embeddings": 16}
LEVELS = ("L1", "L2", "L3", "L4", "L5")


def save_checkpoint(path: Path, seed: int = 0, **hyper_parameters: Any) -> Path:
    """Random weights of CONFIG as a checkpoint at `path`, with these beside its other hyper_parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_vqvae_3d(CONFIG)
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    stated = {"model": CONFIG, "training": {}, **hyper_parameters}
    torch.save({"hyper_parameters": stated, "state_dict": weights}, path)
    return path


def write_volumes(folder: Path, count: int, side: int = 16, seed: int = 0) -> None:
    """Volumes of patients p000, p001, …, five levels each, with labels, and masks of those that are abnormal."""
    from relatent.systems.anomaly.data.volume_folder import add_to_index

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    generator, entries = np.random.default_rng(seed), {}
    for i in range(count):
        name, label = f"vol_p{i // 5:03}_{LEVELS[i % 5]}.npy", int(i % 3 == 0)
        values = generator.random((side,) * 3, np.float32)
        np.save(folder / name, values)
        if label:
            np.save(folder / "masks" / name, values > 0.9)
        entries[name] = {"label": label}
    add_to_index(folder, entries, synthetic=True)
