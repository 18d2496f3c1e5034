"""The order of the volumes: another one each epoch, the same one again for the same seed and epoch."""

import pytest
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.training.data_module import EpochSampler
from relatent.systems.anomaly.training.settings import DatasetSettings


class Epochs(list):
    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def order(seed: int, epoch: int) -> list[int]:
    dataset = Epochs(range(20))
    sampler = EpochSampler(dataset, seed)
    sampler.set_epoch(epoch)
    assert dataset.epoch == epoch
    return list(sampler)


def test_orders():
    assert sorted(order(1, 0)) == list(range(20))
    assert order(1, 3) == order(1, 3)
    assert len({tuple(order(seed, epoch)) for seed, epoch in ((1, 0), (1, 1), (5, 0))}) == 3


@pytest.mark.parametrize(("name", "value"), [("batch_size", 0), ("num_workers", -1), ("batch_size", 1.5)])
def test_numbers_that_do_not_fit(name, value):
    with pytest.raises(UsageError, match=rf"dataset\.{name}"):
        DatasetSettings("volumes", **{name: value})
