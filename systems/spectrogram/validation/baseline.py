"""What validators must be able to tell from spectrograms: pictures whose pixels know nothing of each other."""

import hashlib
from pathlib import Path

import torch

from .pictures import PictureSet

PER_USER = 20


def independent_pixels(training: PictureSet, users: list[int], seed: int) -> PictureSet:
    """Of each user `PER_USER` pictures whose pixels are drawn by themselves, with the mean and deviation of the user's training pictures there.

    A score that they reach says nothing of how real a picture is.
    """
    generator = torch.Generator().manual_seed(seed)
    images = []
    for user in users:
        own = training.of_user(user).images.float()
        noise = torch.randn(PER_USER, *own.shape[1:], generator=generator)
        images.append((own.mean(0) + own.std(0, correction=0) * noise).round().clamp(0, 255).byte())
    names = tuple(f"ID_{user + 1}/independent_{i:04d}" for user in users for i in range(PER_USER))
    return PictureSet(
        torch.cat(images),
        torch.tensor(users).repeat_interleave(PER_USER),
        ("",) * len(names),
        names,
        tuple(hashlib.sha256(image.numpy().tobytes()).hexdigest() for part in images for image in part),
        tuple(Path(name) for name in names),
    )
