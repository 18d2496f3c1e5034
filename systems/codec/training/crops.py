"""Training pictures: random crops, flipped at random, the same ones for a seed whatever was interrupted."""

import logging
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ....engine.errors import UsageError
from ....engine.inputs.images import load_image
from ....engine.inputs.sources import discover

CACHE_BYTES = 2 * 2**30  # of decoded pictures that are kept in memory, in each process that reads
logger = logging.getLogger(__name__)


class CropDataset(Dataset[Tensor]):
    """One crop (3, side, side) uint8 of each picture; `set_epoch` draws other ones. Smaller pictures are left out.

    given: a picture, a folder with its subfolders, or a text file with one path per line. Raises `UsageError` where no
    picture is large enough.
    """

    def __init__(self, given: str, side: int, seed: int) -> None:
        self.side, self.seed, self.epoch, self.room = side, seed, 0, CACHE_BYTES
        self.cache: dict[str, np.ndarray] = {}
        paths = [source.path for source in discover(given)]
        self.paths = [path for path in paths if min(self.picture(path).shape[:2]) >= side]
        if len(self.paths) < len(paths):
            logger.warning(
                "%d of %d pictures are smaller than %d×%d: left out",
                len(paths) - len(self.paths),
                len(paths),
                side,
                side,
            )
        if not self.paths:
            raise UsageError(
                f"train_dataset: no picture of {given} has {side}×{side} pixels; give a smaller --patch-size"
            )

    def picture(self, path: str) -> np.ndarray:
        """(H, W, 3) uint8, from memory where it is kept."""
        kept = self.cache.get(path)
        if kept is None:
            kept = load_image(path, None, cell=1).pixels
            if kept.nbytes <= self.room:
                self.room -= kept.nbytes
                self.cache[path] = kept
        return kept

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        draw = np.random.default_rng((self.seed, self.epoch, index))
        picture, side = self.picture(self.paths[index]), self.side
        top, left = (int(draw.integers(size - side + 1)) for size in picture.shape[:2])
        crop = picture[top : top + side, left : left + side]
        for axis in (0, 1):
            if draw.random() < 0.5:
                crop = np.flip(crop, axis)
        return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))


def batches(dataset: CropDataset, epoch: int, size: int, first: int, workers: int) -> Iterator[Tensor]:
    """The batches (size, 3, side, side) uint8 of an epoch, in its own random order, from batch number `first` on.

    What is left over at the end of the order is left out, as in the original.
    """
    dataset.set_epoch(epoch)
    order = np.random.default_rng((dataset.seed, epoch)).permutation(len(dataset)).tolist()
    rows = [order[i : i + size] for i in range(0, len(order) - size + 1, size)][first:]
    own = torch.Generator()  # else making the loader draws from torch's, and an epoch taken up again has other noise
    yield from DataLoader(dataset, batch_sampler=rows, num_workers=workers, generator=own)
