"""The data set and its augmentation."""

import numpy as np
import pytest
import torch
from PIL import Image
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.data.dataset import Augmentation, SpectrogramDataset
from relatent.systems.spectrogram.data.spectrogram import Spectrogram


@pytest.fixture
def items(tmp_path):
    draw = np.random.default_rng(0)
    found = []
    for i in range(3):
        Image.fromarray(draw.integers(20, 230, (8, 8, 3), np.uint8)).save(path := tmp_path / f"{i}.png")
        found.append(Spectrogram(path, i % 2, "a", 0.0))
    return found


def test_samples_are_the_pictures(items):
    samples = list(SpectrogramDataset(items, 8))
    assert [(sample["user"], sample["index"]) for sample in samples] == [(0, 0), (1, 1), (0, 2)]
    image = samples[1]["image"]
    assert (image.shape, image.dtype) == ((3, 8, 8), torch.float32)
    pixels = np.asarray(Image.open(items[1].path), np.float32).transpose(2, 0, 1)
    assert torch.allclose((image + 1) * 127.5, torch.from_numpy(pixels), atol=1e-4)
    assert SpectrogramDataset(items, 4)[0]["image"].shape == (3, 4, 4)


def test_changes_depend_on_seed_epoch_and_index_alone(items):
    data = SpectrogramDataset(items, 8, Augmentation(), seed=1)
    first = [data[i]["image"] for i in (2, 0, 1)]
    again = SpectrogramDataset(items, 8, Augmentation(), seed=1)
    assert torch.equal(again[0]["image"], first[1])
    assert torch.equal(again[-1]["image"], first[0])
    again.set_epoch(1)
    assert not torch.equal(again[0]["image"], first[1])
    again.set_epoch(0)
    assert torch.equal(again[0]["image"], first[1])
    assert not torch.equal(SpectrogramDataset(items, 8, Augmentation(), seed=2)[0]["image"], first[1])
    twice = SpectrogramDataset([items[0], items[0]], 8, Augmentation(), seed=1)
    assert not torch.equal(twice[0]["image"], twice[1]["image"])


def test_a_change_is_a_gain_within_5_percent_and_noise():
    picture = torch.full((3, 64, 64), 0.5)
    means, spreads = [], []
    for seed in range(50):
        changed = Augmentation()(picture, torch.Generator().manual_seed(seed))
        means.append(float(changed.mean()) / 0.5)
        spreads.append(float(changed.std()))
    assert 0.949 < min(means) < 0.96
    assert 1.04 < max(means) < 1.051
    assert np.allclose(spreads, 0.005, rtol=0.05)
    bright = Augmentation(gain=0.5)(torch.ones(3, 8, 8), torch.Generator().manual_seed(3))
    assert bright.max() <= 1


def test_epochs_reach_workers_that_live_on(items):
    data = SpectrogramDataset(items, 8, Augmentation())
    loader = torch.utils.data.DataLoader(data, batch_size=3, num_workers=1, persistent_workers=True)
    pictures = []
    for epoch in (0, 1, 0):
        data.set_epoch(epoch)
        (batch,) = loader
        pictures.append(batch["image"])
    assert torch.equal(pictures[0], pictures[2])
    assert not torch.equal(pictures[0], pictures[1])


def test_nothing_to_read_and_impossible_settings_are_refused(items):
    for given, side in (([], 8), (items, 0)):
        with pytest.raises(UsageError, match="side from 1"):
            SpectrogramDataset(given, side)
    with pytest.raises(UsageError, match="gain and noise"):
        Augmentation(gain=1.0)
