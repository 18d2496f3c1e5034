"""A diffusion model small enough for tests, latents of two users whose means differ, and a VAE."""

from pathlib import Path

import torch
from relatent.systems.spectrogram.diffusion.latent_set import LatentSet
from relatent.systems.spectrogram.diffusion.settings import DiffusionSettings
from relatent.systems.spectrogram.vae.model import build_vae, save_vae
from relatent.systems.spectrogram.vae.settings import VAESettings

DISTANCE = 6.0  # between the users' means in the toy latents


TINY = {
    "block_out_channels": (16,),
    "attention": (True,),
    "layers_per_block": 1,
    "heads": 2,
    "cross_attention_dim": 16,
    "max_steps": 6,
    "batch_size": 8,
    "learning_rate": 2e-3,
    "lr_warmup_steps": 10,
    "save_every": 2,
    "eval_every": 3,
    "log_every": 1,
    "device": "cpu",
}


def tiny_settings(**given) -> DiffusionSettings:
    return DiffusionSettings(**{"num_users": 2, **TINY, **given})


def toy_latents(count: int = 64, seed: int = 0, shape: tuple[int, int, int] = (2, 4, 4), users: int = 2) -> LatentSet:
    """User u has the mean (u − ½) · DISTANCE in channel 0; four recordings a user."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.arange(count) % users
    latents = 1.5 * torch.randn((count, *shape), generator=generator)
    latents[:, 0] += DISTANCE * (numbers - 0.5)[:, None, None]
    return LatentSet(latents, numbers, tuple(f"walk_{i // users % 4}" for i in range(count)))


def tiny_vae(folder: Path, side: int = 32, std: float = 2.0) -> Path:
    """An untrained VAE with the record that a training writes: latents 2×8² of pictures 32²."""
    settings = VAESettings("", "", resolution=side, block_out_channels=(8, 8, 16), latent_channels=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = build_vae(settings)
    record = {"latent_mean": 0.0, "latent_std": std, "scaling_factor": 1 / std, "resolution": side, "num_users": 2}
    save_vae(vae, record | {"psnr": 10.0, "ssim": 0.1, "held_out": 0.2, "split_seed": 0}, folder)
    return folder
