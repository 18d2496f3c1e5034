"""Measures of pictures and their comparison."""

import math

import numpy as np
import pytest
from relatent.systems.spectrogram.validation.measures import (
    ANGLES,
    GLCM,
    LEVELS,
    glcm_properties,
    grey_histogram,
    moments,
    scalars,
    spectra,
)
from relatent.systems.spectrogram.validation.statistics import Described, PictureDistribution, compare, compare_users
from scipy import stats

OFFSETS = ((0, 1), (-1, 1), (-1, 0), (-1, -1))  # rows and columns, of 0, 45, 90 and 135 degrees


def noise(seed, count=40, side=16, mean=0.5):
    return np.clip(np.random.default_rng(seed).normal(mean, 0.1, (count, side, side)), 0, 1).astype(np.float32)


def test_moments():
    grey = noise(0) ** 2
    flat = grey.reshape(len(grey), -1).astype(np.float64)
    expected = [flat.mean(1), flat.std(1), stats.skew(flat, 1), stats.kurtosis(flat, 1)]
    assert np.allclose(moments(grey), np.stack(expected, 1))
    assert np.isfinite(moments(np.zeros((1, 8, 8), np.float32))).all()


def test_glcm_angles_are_radians():
    assert np.allclose(np.rad2deg(ANGLES), (0, 45, 90, 135))
    grey = noise(1, 3)
    quantised = np.minimum(grey * LEVELS, LEVELS - 1).astype(int)
    for picture, row in zip(quantised, glcm_properties(grey), strict=True):
        contrasts = []
        for down, right in OFFSETS:  # each pixel's neighbour in that direction
            first = picture[max(0, -down) :, max(0, -right) : picture.shape[1] - max(0, right)]
            second = picture[: picture.shape[0] + down, max(0, right) : picture.shape[1] + min(0, right)]
            contrasts.append(np.mean((first - second) ** 2))
        assert row[GLCM.index("contrast")] == pytest.approx(np.mean(contrasts))


def test_glcm_of_stripes():
    stripes = np.tile(np.array([0.0, 0.99]), (1, 16, 8)).astype(np.float32)
    # no difference along the stripes, the largest in the three other directions
    assert glcm_properties(stripes)[0, GLCM.index("contrast")] == pytest.approx(0.75 * (LEVELS - 1) ** 2)


def test_spectra():
    side, time = 32, np.arange(32)
    wave = np.tile(0.5 + 0.25 * np.sin(2 * np.pi * 5 * time / side), (2, side, 1))
    found = spectra(wave)
    assert [len(profile) for profile in found.values()] == [16, 16, 16]
    assert int(found["time"].argmax()) == 4  # five cycles; the first place is one cycle
    assert int(found["radial"].argmax()) == 4
    assert np.allclose(found["doppler"], -120)
    white = np.random.default_rng(0).normal(0, 1, (200, side, side))
    assert np.allclose(spectra(white)["radial"], 0, atol=0.4)


def test_histogram():
    found = grey_histogram(np.array([[[0.0, 1.0], [0.5, 0.5]]]))
    assert found.sum() == 1
    assert (found[0], found[32], found[63]) == (0.25, 0.5, 0.25)


def test_mahalanobis():
    random = np.random.default_rng(0)
    basis = random.normal(size=(60, 256))

    def sample(count, mean=0.0):
        return (0.5 + 0.01 * (mean + random.normal(size=(count, 60))) @ basis).reshape(count, 16, 16)

    known = PictureDistribution(sample(1000))
    assert known.pca.n_components_ == 50
    assert known.mahalanobis(sample(200)).mean() == pytest.approx(math.sqrt(50), rel=0.1)
    assert known.mahalanobis(sample(200, 3.0)).mean() > 2 * math.sqrt(50)
    assert 0.8 < known.explained < 1


def test_comparison():
    users = np.arange(2).repeat(20)
    distribution = PictureDistribution(noise(0))
    one, same, other = (
        Described.of(grey, users, distribution) for grey in (noise(0), noise(1), np.clip(noise(2, mean=0.8), 0, 1))
    )
    equal = compare(one, one)
    assert equal["histogram_distance"] == equal["spectrum_distance"] == equal["ks_mean"] == 0
    alike, different = compare(one, same), compare(one, other)
    assert alike["histogram_distance"] < 0.1 < different["histogram_distance"]
    assert alike["ks"]["mean"] < 0.4
    assert different["ks"]["mean"] == 1.0
    assert different["ks_p_values"]["mean"] < 1e-6 < alike["ks_p_values"]["mean"]
    assert different["means"]["mean"] == pytest.approx([0.5, 0.8], abs=0.02)
    found = compare_users(one, other)
    assert sorted(found) == [0, 1]
    assert found[1] == compare(one.of_user(1), other.of_user(1))
    assert sorted(scalars(noise(0, 1))) == sorted(set(different["ks"]) - {"mahalanobis"})
