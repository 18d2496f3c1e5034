"""Per-user classifiers and metric learning."""

import math

import numpy as np
import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.validation.fitting import FitSettings
from relatent.systems.spectrogram.validation.metric_learning import (
    TEMPERATURE,
    contrastive_loss,
    train_prototypes,
    user_batches,
)
from relatent.systems.spectrogram.validation.per_user import PerUserClassifiers
from small_walkers import FIT


def groups(seed, spread=1.0):
    random = np.random.default_rng(seed)
    users = np.arange(4).repeat(30)
    return np.eye(8)[users] * 4 + spread * random.normal(size=(120, 8)), users


def test_one_against_the_rest():
    features, users = groups(0)
    found = PerUserClassifiers(features, users).score(*groups(1))
    assert found["recognised"] > 0.9
    assert found["rejected"] > 0.9
    assert found["discrimination"] > 0.6
    assert found["passed"] == 1.0
    shuffled = PerUserClassifiers(features, np.random.default_rng(2).permutation(users)).score(*groups(1))
    assert abs(shuffled["discrimination"]) < 0.15
    assert shuffled["passed"] == 0.0


def test_one_user_alone_has_nobody_to_reject():
    models = PerUserClassifiers(*groups(0))
    features, users = groups(1)
    found = models.score(features[users == 2], users[users == 2])
    assert found["rejected"] is None
    assert found["recognised"] > 0.9


def test_the_contrastive_loss():
    outputs = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0], [0.0, -1.0]])  # of users 0, 0, 1, 1
    users = torch.tensor([0, 0, 1, 1])
    # cosines: 0 to the neighbours on the circle, of which one is the partner; -1 to the opposite one
    expected = math.log(2 + math.exp(-1 / TEMPERATURE))
    assert contrastive_loss(outputs, users).item() == pytest.approx(expected)
    near = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    assert contrastive_loss(near, users).item() < 1e-6


def test_each_picture_of_a_batch_has_a_partner():
    labels = torch.arange(10).repeat_interleave(6)
    batches = user_batches(labels, FitSettings(10, 32, batch_size=10), torch.Generator().manual_seed(0))
    assert len(batches) == 3
    for batch in batches:
        assert len(batch.unique()) == 20
        assert sorted(torch.bincount(labels[batch]).tolist())[-5:] == [4] * 5


def test_prototypes(halves, tmp_path, one_thread):
    training, held_out = halves
    prototypes = train_prototypes(training, FIT, tmp_path / "metric.safetensors")
    assert prototypes.prototypes.shape == (3, 64)
    assert np.allclose(np.linalg.norm(prototypes.embed(held_out), axis=1), 1, atol=1e-5)
    assert prototypes.success(held_out) > 0.8
    with pytest.raises(UsageError, match="must not judge"):
        prototypes.success(training)
