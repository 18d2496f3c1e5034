"""Spectrograms to latents, once: they are kept in a file, which is made anew where pictures or VAE have changed."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ....engine.runtime.atomic import atomic_path, file_sha256
from ....engine.runtime.device import resolve_device
from ..data.dataset import SpectrogramDataset
from ..data.spectrogram import Spectrogram
from ..vae.model import find_vae, load_vae
from .latent_set import LatentSet

WEIGHTS = "diffusion_pytorch_model.safetensors"
Progress = Callable[[str], None]


def encode_spectrograms(
    vae_dir: str | Path,
    items: Sequence[Spectrogram],
    cache: Path,
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: Progress = print,
) -> LatentSet:
    """The latents of spectrograms at the VAE's resolution: the mode of its posterior, in fp32, unscaled, not augmented.

    cache: a file `.safetensors`, read where it is of these spectrograms and this VAE, written otherwise. Raises `UsageError` and
    `SpectrogramError` for a VAE or a picture that cannot be used.
    """
    vae, record = load_vae(vae_dir)
    side = int(record["resolution"])
    key = _key(Path(vae_dir), side, items)
    users = torch.tensor([item.user for item in items])
    recordings = tuple(item.recording for item in items)
    latents = _cached(cache, key)
    if latents is None:
        dataset = SpectrogramDataset(items, side)
        where = resolve_device(device)
        vae = vae.to(where)
        progress(f"encoding {len(items)} spectrograms")
        found = []
        with torch.inference_mode():
            for start in range(0, len(items), batch_size):
                rows = range(start, min(start + batch_size, len(items)))
                pictures = torch.stack([dataset[row]["image"] for row in rows]).to(where)
                found.append(vae.encode(pictures).latent_dist.mode().float().cpu())
        latents = torch.cat(found).clone(memory_format=torch.contiguous_format)  # no tensor of inference mode any more
        with atomic_path(cache) as temporary:
            save_file({"latents": latents}, temporary, {"key": key, "latents_scaled": "false"})
    return LatentSet(latents, users, recordings)


def _cached(path: Path, key: str) -> torch.Tensor | None:
    """The latents of a cache with that key; None where there is none, it is stale, or it cannot be read."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            return file.get_tensor("latents") if file.metadata()["key"] == key else None
    except (SafetensorError, OSError, KeyError, TypeError):
        return None  # it is only a cache: it is made anew


def _key(vae_dir: Path, side: int, items: Sequence[Spectrogram]) -> str:
    """Changes with the VAE's weights, and with each picture's place, length and time of change."""
    rows = []
    for item in items:
        status = item.path.stat()
        rows.append([str(item.path.resolve()), status.st_size, status.st_mtime_ns])
    weights = file_sha256(find_vae(vae_dir)[0] / WEIGHTS)
    return hashlib.sha256(json.dumps([weights, side, rows]).encode()).hexdigest()
