"""Everything random of a training, from seed and step alone: a training that goes on draws what an undisturbed one does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .network import NOISE_STEPS

VALIDATION_SEED = 20_000  # the same for every training, so that validation losses of different ones compare
VALIDATION_DRAWS = 128  # at least


@dataclass(frozen=True)
class Draws:
    """A batch as it is trained on: scaled latents are mixed with `noise` at `timesteps`, by latent.

    indices: (B,) int64, of the latents. noise: (B, C, h, w) fp32. timesteps: (B,) int64. dropped: (B,) bool.
    """

    indices: Tensor
    noise: Tensor
    timesteps: Tensor
    dropped: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def rows(self, own: slice) -> "Draws":
        """A process's share."""
        return Draws(self.indices[own], self.noise[own], self.timesteps[own], self.dropped[own])

    def parts(self, size: int) -> "list[Draws]":
        """In parts of `size`, for accumulation."""
        columns = (self.indices, self.noise, self.timesteps, self.dropped)
        return [Draws(*part) for part in zip(*(column.split(size) for column in columns), strict=True)]


def training_draws(count: int, shape: Sequence[int], size: int, seed: int, step: int, dropout: float) -> Draws:
    """Those of update `step` on `count` latents of that shape (C, h, w).

    dropout: probability, for each latent by itself, that the null token takes its user's place.
    """
    generator = generator_of(seed, step)
    return Draws(
        batch_indices(count, size, seed, step),
        torch.randn((size, *shape), generator=generator),
        torch.randint(NOISE_STEPS, (size,), generator=generator),
        torch.rand(size, generator=generator) < dropout,
    )


def batch_indices(count: int, size: int, seed: int, step: int) -> Tensor:
    """Which of `count` samples update `step` takes, (size,) int64. Each epoch, of as many updates as fit, has its own order; what is left over is left out."""
    per_epoch = max(1, count // size)
    order = np.random.default_rng((seed, step // per_epoch)).permutation(max(count, size)) % count
    start = (step % per_epoch) * size
    return torch.from_numpy(order[start : start + size])


def validation_draws(total: int, shape: Sequence[int], most: int = 512) -> Draws:
    """The same for every training on as many latents (`total`, of that shape (C, h, w)): at most `most` latents, noise that is theirs alone, timesteps spread evenly, no null token."""
    chosen = np.random.default_rng(VALIDATION_SEED).permutation(total)[:most]
    indices = torch.from_numpy(np.tile(chosen, -(-VALIDATION_DRAWS // len(chosen))))
    generator = generator_of(VALIDATION_SEED, 0)
    count = len(indices)
    even = ((torch.arange(count) + 0.5) * NOISE_STEPS / count).long()
    return Draws(
        indices,
        torch.randn((count, *shape), generator=generator),
        even[torch.randperm(count, generator=generator)],
        torch.zeros(count, dtype=torch.bool),
    )


def sample_seed(seed: int, user: int, index: int) -> int:
    """The seed of the noise that sample `index` of a user starts from."""
    return _state(seed, user, index)


def generator_of(*key: int) -> torch.Generator:
    """A generator whose state depends on these numbers, from 0 on."""
    return torch.Generator().manual_seed(_state(*key))


def _state(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
