"""Spectrograms as a data set of PyTorch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ....engine.errors import UsageError
from .spectrogram import Spectrogram


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training picture. None is geometric: in a spectrogram both axes have a unit, and a mirror image in
    velocity or time would be another movement.

    gain: a factor from 1 - gain to 1 + gain. noise: standard deviation. Both are of values in [0, 1].
    """

    gain: float = 0.05
    noise: float = 0.005

    def __post_init__(self) -> None:
        if not 0 <= self.gain < 1 or not 0 <= self.noise < 1:
            raise UsageError(f"expected gain and noise from 0 to 1, found {self.gain} and {self.noise}")

    def __call__(self, picture: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A changed copy of a picture, fp32 in [0, 1]; the same shape and range."""
        gain = 1 + self.gain * (2 * torch.rand((), generator=generator) - 1)
        noise = self.noise * torch.randn(picture.shape, generator=generator)
        return (gain * picture + noise).clamp(0, 1)


class SpectrogramDataset(Dataset[dict[str, Any]]):
    """Spectrograms of one size, changed at random where an augmentation is given.

    Each sample has `image`, (3, side, side) fp32 in [-1, 1]; `user`, int from 0 on; `index`, int, its place in `items`. A change
    depends on seed, epoch and index alone, not on the order or the process in which samples are drawn.
    """

    def __init__(
        self, items: Sequence[Spectrogram], side: int, augmentation: Augmentation | None = None, seed: int = 0
    ) -> None:
        """side: pixels. seed: of the augmentation. Raises UsageError where there are no items or side is below 1."""
        if not items or side < 1:
            raise UsageError(f"expected spectrograms and a side from 1 on, found {len(items)} and {side}")
        self.items, self.side, self.augmentation, self.seed = list(items), side, augmentation, seed
        # in shared memory: worker processes that outlive an epoch see it change
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Draw the augmentation of this epoch from now on, in all worker processes."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample. Raises SpectrogramError for a file that cannot be used, IndexError beyond the end."""
        item = self.items[index]
        index %= len(self)
        picture = torch.from_numpy(item.read(self.side).transpose(2, 0, 1).astype(np.float32) / 255)
        if self.augmentation is not None:
            state = np.random.SeedSequence([self.seed, int(self._epoch), index]).generate_state(1, np.uint64)
            generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
            picture = self.augmentation(picture, generator)
        return {"image": 2 * picture - 1, "user": item.user, "index": index}
