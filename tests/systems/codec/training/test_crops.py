"""Crops: drawn at random, the same ones again for the same seed and epoch."""

import numpy as np
import torch
from relatent.systems.codec.training.crops import CropDataset, batches


def test_a_seed_and_an_epoch_give_the_same_crops(pictures):
    def all_of(epoch: int, seed: int = 0) -> torch.Tensor:
        return torch.cat(list(batches(CropDataset(str(pictures), 64, seed), epoch, 2, 0, 0)))

    assert torch.equal(all_of(3), all_of(3))
    assert not torch.equal(all_of(3), all_of(4))
    assert not torch.equal(all_of(3), all_of(3, seed=1))


def test_an_interrupted_epoch_goes_on_with_its_next_batch(pictures):
    dataset = CropDataset(str(pictures), 64, 0)
    whole = list(batches(dataset, 1, 2, 0, 0))
    assert [tuple(batch.shape) for batch in whole] == [(2, 3, 64, 64)] * 3
    assert torch.equal(torch.cat(list(batches(dataset, 1, 2, 1, 0))), torch.cat(whole[1:]))


def test_crops_are_parts_of_their_picture_in_all_four_mirrorings(pictures):
    dataset = CropDataset(str(pictures), 64, 0)
    picture = dataset.picture(dataset.paths[0])
    windows = np.lib.stride_tricks.sliding_window_view(picture, (64, 64), axis=(0, 1)).reshape(-1, 3, 64, 64)
    found = set()
    for epoch in range(24):
        dataset.set_epoch(epoch)
        crop = dataset[0].numpy()
        for rows in (1, -1):
            for columns in (1, -1):
                if (windows == crop[:, ::rows, ::columns]).all((1, 2, 3)).any():
                    found.add((rows, columns))
    assert found == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
