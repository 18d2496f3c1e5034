"""The learning rate's schedules."""

import pytest
from relatent.systems.codec.training.schedule import learning_rate


def test_the_published_drops():
    rates = [learning_rate(5e-5, "drops", epoch / 3000, 9) for epoch in (0, 2749, 2750, 2850, 2950, 2999)]
    assert rates == pytest.approx([5e-5, 5e-5, 1.5e-5, 5e-6, 5e-7, 5e-7])


def test_the_cosine_rises_then_falls():
    assert learning_rate(1.0, "cosine", 0.0, 0) == pytest.approx(1 / 200)
    assert learning_rate(1.0, "cosine", 0.0, 199) == 1.0
    assert learning_rate(1.0, "cosine", 0.5, 1000) == pytest.approx(0.505)
    assert learning_rate(1.0, "cosine", 1.0, 9999) == pytest.approx(0.01)
