"""Fréchet distance, inception-like score, diversity, copies."""

import numpy as np
import pytest
from relatent.systems.spectrogram.validation.diversity import copies, nearest_distances, within_user_diversity
from relatent.systems.spectrogram.validation.frechet import (
    frechet_by_size,
    frechet_distance,
    inception_like_score,
    sizes_up_to,
)
from scipy.linalg import sqrtm


def test_the_distance_of_normal_distributions():
    random = np.random.default_rng(0)
    first = random.normal(size=(20_000, 3)) * (1, 2, 3)
    second = random.normal(size=(20_000, 3)) * (2, 2, 1) + (1, 0, -2)
    # |shift|² and the squared differences of the standard deviations
    assert frechet_distance(first, second) == pytest.approx(5 + 1 + 0 + 4, rel=0.03)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    mixed = second @ random.normal(size=(3, 3))
    one, two = np.cov(first, rowvar=False), np.cov(mixed, rowvar=False)
    expected = np.square(first.mean(0) - mixed.mean(0)).sum() + np.trace(one + two - 2 * sqrtm(one @ two).real)
    assert frechet_distance(first, mixed) == pytest.approx(expected)
    assert np.isfinite(frechet_distance(first[:2], mixed[:2]))  # covariances of rank 1


def test_its_bias_is_shown_by_size():
    random = np.random.default_rng(0)
    real, generated = random.normal(size=(400, 8)), random.normal(size=(300, 8)) + 0.5
    rows = frechet_by_size(real, generated, sizes_up_to(200))
    assert [row["size"] for row in rows] == [25, 50, 100, 200]
    control = [row["real"] for row in rows]
    assert control == sorted(control, reverse=True)  # all above 0, although both halves are of one distribution
    assert control[0] > 5 * control[-1] > 0
    assert rows[-1]["generated"] - rows[-1]["real"] == pytest.approx(8 * 0.25, rel=0.25)


def test_inception_like_score():
    assert inception_like_score(np.full((10, 5), 0.2)) == pytest.approx(1)
    assert inception_like_score(np.eye(5)) == pytest.approx(5)
    assert inception_like_score(np.eye(5)[[0, 0, 0, 0]]) == pytest.approx(1)  # sure, but always of the same


def test_diversity():
    features = np.array([[0.0, 0], [3, 4], [1, 1], [1, 1], [7, 7]])
    assert within_user_diversity(features, np.array([0, 0, 1, 1, 2])) == {0: 5.0, 1: 0.0}


def test_copies_are_found():
    random = np.random.default_rng(0)
    training, held_out, new = (random.random((count, 8, 8)).astype(np.float32) for count in (300, 50, 30))
    planted = np.clip(training[[7, 9]] + random.normal(0, 0.01, (2, 8, 8)), 0, 1)
    distances, nearest = nearest_distances(np.concatenate([new, planted]), training)
    expected = np.sqrt(np.square(new[3] - training).mean((1, 2)))
    assert distances[3] == pytest.approx(expected.min(), rel=1e-4)
    assert nearest[3] == expected.argmin()
    found = copies(distances, nearest_distances(held_out, training)[0])
    assert found["copied"] == [30, 31]
    assert nearest[30:].tolist() == [7, 9]
    assert found["copies"] == pytest.approx(2 / 32)
    assert found["copies_of_held_out"] == 0
