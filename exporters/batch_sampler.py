"""Batches of samples of one size, for datasets whose samples have several."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from ..engine.inputs.sizes import Size


class SizeBatchSampler(Sampler[list[int]]):
    """Batch sampler for torch's DataLoader: every batch holds samples of one size, and every sample comes once an epoch.

    A size whose samples do not fill the last batch gives a smaller batch, unless `drop_last`.
    """

    def __init__(
        self,
        sizes: Sequence[Size],
        batch_size: int,
        shuffle: bool = True,
        drop_last: bool = False,
        generator: torch.Generator | None = None,
    ):
        """sizes: (width, height) of each sample, in pixels. shuffle: new batches in a new order every epoch, drawn from
        `generator`, or from torch's default one. Raises `ValueError` for a batch size below 1."""
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, found {batch_size}")
        self.batch_size, self.shuffle, self.drop_last, self.generator = batch_size, shuffle, drop_last, generator
        self.groups: dict[Size, list[int]] = {}  # indices of the samples by size
        for index, size in enumerate(sizes):
            self.groups.setdefault(size, []).append(index)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return sum(self._batches(len(group)) for group in self.groups.values())

    def __iter__(self) -> Iterator[list[int]]:
        batches = [
            order[start * self.batch_size : (start + 1) * self.batch_size]
            for order in map(self._order, self.groups.values())
            for start in range(self._batches(len(order)))
        ]
        yield from (batches[index] for index in self._order(list(range(len(batches)))))

    def _order(self, indices: list[int]) -> list[int]:
        """Return the indices in the order of this epoch."""
        if not self.shuffle:
            return indices
        return [indices[place] for place in torch.randperm(len(indices), generator=self.generator).tolist()]

    def _batches(self, count: int) -> int:
        """Return the number of batches of `count` samples."""
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)
