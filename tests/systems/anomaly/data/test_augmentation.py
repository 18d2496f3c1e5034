"""Augmentation: each change does what it says, by as much as it says, and can be drawn again."""

import math

import numpy as np
import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.data.augmentation import Augmentation, affine_of, sample_generator
from torch.nn.functional import affine_grid, grid_sample

SIDE = 20
STILL = dict(degrees=0.0, shift=0.0, scale=(1.0, 1.0), noise=0.0, brightness=0.0, contrast=(1.0, 1.0))


def warp(volume, **change):
    theta = affine_of(volume.shape, **{"flip": False, "angle": 0.0, "shift": (0.0, 0.0), "scale": 1.0, **change})
    grid = affine_grid(theta.float()[None], [1, 1, *volume.shape], align_corners=False)
    return grid_sample(volume[None, None], grid, align_corners=False)[0, 0]


def blob(centre, shape=(SIDE, SIDE, SIDE), width=1.5):
    places = torch.meshgrid(*(torch.arange(size) - (size - 1) / 2 for size in shape), indexing="ij")
    return torch.exp(-sum((p - c) ** 2 for p, c in zip(places, centre, strict=True)) / (2 * width**2))


def centre_of(volume):
    places = torch.meshgrid(*(torch.arange(size) - (size - 1) / 2 for size in volume.shape), indexing="ij")
    return [float((p * volume).sum() / volume.sum()) for p in places]


def draws(augmentation, volume, count=200):
    return [augmentation(volume, sample_generator(0, 0, i)) for i in range(count)]


def test_a_flip_mirrors_w_and_nothing_else():
    volume = torch.rand(6, 7, 8)
    torch.testing.assert_close(warp(volume, flip=True), volume.flip(2))


@pytest.mark.parametrize("shape", [(20, 20, 20), (12, 24, 18)])
def test_a_turn_is_round_the_axis_of_d_by_its_angle_in_voxels(shape):
    angle = math.radians(15)
    found = centre_of(warp(blob((2.0, 5.0, 0.0), shape), angle=angle))
    np.testing.assert_allclose(found, [2.0, 5 * math.cos(angle), 5 * math.sin(angle)], atol=0.03)


def test_a_shift_moves_along_h_and_w_by_parts_of_the_side():
    torch.testing.assert_close(
        warp(torch.rand(SIDE, SIDE, SIDE, generator=sample_generator(0, 0, 0)), shift=(0.05, -0.1)),
        torch.nn.functional.pad(
            torch.rand(SIDE, SIDE, SIDE, generator=sample_generator(0, 0, 0))[:, :-1, 2:], (0, 2, 1, 0)
        ),
        atol=1e-4,
        rtol=0,
    )


def test_a_scale_above_one_enlarges():
    found = centre_of(warp(blob((4.0, -4.0, 2.0)), scale=1.1))
    np.testing.assert_allclose(found, [4.4, -4.4, 2.2], atol=0.03)


def test_translation_is_drawn_along_h_and_w_and_within_its_bounds():
    volume = blob((0.0, 0.0, 0.0))[None]
    found = np.array([centre_of(one[0]) for one in draws(Augmentation(**{**STILL, "shift": 0.05}), volume)])
    moved = np.abs(found[:, 1:]).max(axis=1) > 0.01
    assert 0.35 < moved.mean() < 0.65  # p = .5
    assert np.abs(found[:, 0]).max() < 1e-3
    assert (np.abs(found[:, 1:]).max(axis=0) > 0.7).all()
    assert np.abs(found).max() <= 1.0 + 1e-3  # 5 % of 20 voxels


@pytest.mark.parametrize(
    ("name", "value"),
    [("degrees", 15.0), ("scale", (0.9, 1.1)), ("noise", 0.01), ("brightness", 0.05), ("contrast", (0.95, 1.05))],
)
def test_each_change_happens_to_half_of_the_samples(name, value):
    volume = (0.2 + 0.6 * blob((1.0, 4.0, 3.0)))[None]
    still = Augmentation(**STILL)
    pairs = zip(draws(Augmentation(**{**STILL, name: value}), volume), draws(still, volume), strict=True)
    assert 0.35 < np.mean([float((a - b).abs().max()) > 1e-4 for a, b in pairs]) < 0.65


def test_noise_brightness_and_contrast_have_their_sizes():
    volume = torch.full((1, SIDE, SIDE, SIDE), 0.5)
    noisy = [one.std() for one in draws(Augmentation(**{**STILL, "noise": 0.01}), volume, 40)]
    assert max(noisy) == pytest.approx(0.01, rel=0.05)
    bright = np.array([float(one.mean()) - 0.5 for one in draws(Augmentation(**{**STILL, "brightness": 0.05}), volume)])
    assert 0.045 < bright.max() <= 0.0501
    assert -0.0501 <= bright.min() < -0.045
    two = torch.cat([volume - 0.2, volume + 0.2], dim=3)
    wide = np.array(
        [float(one.std() / two.std()) for one in draws(Augmentation(**{**STILL, "contrast": (0.95, 1.05)}), two)]
    )
    assert 1.045 < wide.max() <= 1.0501
    assert 0.9499 <= wide.min() < 0.96


def test_half_of_the_samples_are_flipped():
    volume = blob((0.0, 0.0, 5.0))[None]
    flipped = [centre_of(one[0])[2] < 0 for one in draws(Augmentation(**STILL), volume)]
    assert 0.35 < np.mean(flipped) < 0.65


def test_the_specified_changes_are_the_defaults():
    """In the original the translation was commented out."""
    specified = dict(degrees=15.0, shift=0.05, scale=(0.9, 1.1), noise=0.01, brightness=0.05, contrast=(0.95, 1.05))
    assert Augmentation() == Augmentation(**specified, probability=0.5)
    volume = blob((0.0, 0.0, 0.0))[None]  # round: a turn, a size or a mirror image leaves its centre where it is
    found = np.array([centre_of(one[0]) for one in draws(Augmentation(noise=0.0, brightness=0.0), volume)])
    assert 0.35 < (np.abs(found[:, 1:]).max(axis=1) > 0.01).mean() < 0.65


def test_without_probability_nothing_changes():
    volume = torch.rand(1, 5, 6, 7)
    assert torch.equal(Augmentation(probability=0.0)(volume, sample_generator(0, 0, 0)), volume)


def test_range_shape_and_dtype_stay():
    for i in range(20):
        volume = torch.rand(1, 8, 8, 8, generator=sample_generator(1, 1, i)).round()
        changed = Augmentation()(volume, sample_generator(0, 0, i))
        assert changed.shape == volume.shape
        assert changed.dtype == torch.float32
        assert float(changed.min()) >= 0
        assert float(changed.max()) <= 1


def test_a_sample_is_the_same_again_and_another_in_each_epoch_and_place():
    volume = blob((1.0, 2.0, 3.0))[None]
    change = Augmentation(probability=1.0)
    one = change(volume, sample_generator(42, 3, 7))
    assert torch.equal(one, change(volume, sample_generator(42, 3, 7)))
    for other in [(43, 3, 7), (42, 4, 7), (42, 3, 8), (42, 7, 3)]:
        assert not torch.equal(one, change(volume, sample_generator(*other)))


@pytest.mark.parametrize("wrong", [dict(scale=(0.0, 1.0)), dict(contrast=(1.1, 0.9)), dict(probability=1.5)])
def test_wrong_ranges_are_refused(wrong):
    with pytest.raises(UsageError):
        Augmentation(**wrong)
