"""A VAE's reconstructions of held-out pictures, for the page of a validation."""

from pathlib import Path
from typing import Any

import numpy as np

from ....engine.errors import UsageError
from ....engine.losses.metrics import to_uint8
from ..data.dataset import SpectrogramDataset
from ..data.spectrogram import Spectrogram
from ..vae.evaluation import GRID, reconstruction_quality
from ..vae.model import load_vae
from ..validation.pictures import PictureSet

MEASURED = 256  # pictures at most
BATCH = 16


def reconstructions(vae_dir: Path, pictures: PictureSet, held_out: float) -> dict[str, Any]:
    """What a VAE makes of held-out pictures, at its own resolution.

    held_out: the part of the recordings that they are of. Returns `psnr` in dB and `ssim`, means over `pictures` of them evenly spread, and
    `shown`: (2, n, R, R, 3) uint8, pictures of users far from each other above what came out. Raises `UsageError` where the VAE was trained on
    some of these recordings.
    """
    vae, record = load_vae(vae_dir)
    if not np.isclose(record.get("held_out", held_out), held_out):
        raise UsageError(
            f"{vae_dir}: its training held out {record['held_out']:g} of the recordings, found held_out {held_out:g}; give the same"
        )
    side = int(record["resolution"])
    items = [
        Spectrogram(path, user, recording, 0.0)
        for path, user, recording in zip(pictures.paths, pictures.users.tolist(), pictures.recordings, strict=True)
    ]
    found = reconstruction_quality(vae, SpectrogramDataset(items, side), BATCH, MEASURED)
    few = SpectrogramDataset([items[i] for i in _spread(pictures)], side)
    return {
        "psnr": found.psnr,
        "ssim": found.ssim,
        "pictures": min(len(items), MEASURED),
        "shown": to_uint8(reconstruction_quality(vae, few, GRID).shown).permute(0, 1, 3, 4, 2).numpy(),
    }


def _spread(pictures: PictureSet) -> list[int]:
    """The indices of at most `GRID` pictures, of as many users; first and second windows by turns, which are to and from a simulated radar."""
    users = np.unique(pictures.users.numpy())
    chosen = users[np.unique(np.linspace(0, len(users) - 1, min(GRID, len(users))).round().astype(int))]
    own = [np.flatnonzero(pictures.users.numpy() == user) for user in chosen]
    return [int(rows[min(number % 2, len(rows) - 1)]) for number, rows in enumerate(own)]
