"""Batches of a training and a validation data set."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler


class EpochSampler(Sampler[int]):
    """A new order for each epoch that depends on seed and epoch alone, so that a training which goes on sees the same."""

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset, self.seed, self.epoch = dataset, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch; passed on to a data set whose augmentation depends on it."""
        self.epoch = epoch
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(torch.randperm(len(self), generator=generator).tolist())


class VolumeDataModule(LightningDataModule):
    """Two data sets whose items have a (1, D, H, W) fp32 volume in [0, 1]: see `VQVAEModule`."""

    def __init__(
        self, train: Dataset[Any], val: Dataset[Any], batch_size: int = 4, num_workers: int = 0, seed: int = 42
    ) -> None:
        super().__init__()
        self.train, self.val, self.seed = train, val, seed
        self.common: dict[str, Any] = {
            "batch_size": batch_size,
            "num_workers": num_workers,
            "persistent_workers": num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, sampler=EpochSampler(self.train, self.seed), **self.common)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.val, **self.common)
