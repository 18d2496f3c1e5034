"""Batches of one size."""

import pytest
import torch
from relatent.exporters.batch_sampler import SizeBatchSampler

SIZES = [(8, 4)] * 5 + [(4, 8)] * 3 + [(8, 8)]


def test_every_sample_comes_once_in_batches_of_one_size():
    batches = list(SizeBatchSampler(SIZES, 2, shuffle=False))
    assert batches == [[0, 1], [2, 3], [4], [5, 6], [7], [8]]
    assert len(SizeBatchSampler(SIZES, 2)) == 6


def test_incomplete_batches_can_be_left_out():
    sampler = SizeBatchSampler(SIZES, 2, shuffle=False, drop_last=True)
    assert list(sampler) == [[0, 1], [2, 3], [5, 6]]
    assert len(sampler) == 3


def test_every_epoch_is_shuffled_anew_and_reproducibly():
    def epochs(seed):
        sampler = SizeBatchSampler(SIZES, 2, generator=torch.Generator().manual_seed(seed))
        return list(sampler), list(sampler)

    first, second = epochs(1)
    assert (first, second) == epochs(1)
    assert first != second
    for batches in (first, second):
        assert sorted(index for batch in batches for index in batch) == list(range(9))
        assert all(len({SIZES[index] for index in batch}) == 1 for batch in batches)


def test_a_batch_holds_something():
    with pytest.raises(ValueError, match="at least 1, found 0"):
        SizeBatchSampler(SIZES, 0)
