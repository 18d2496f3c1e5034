"""The learning rate is above 0 at every update, the first ones included."""

import pytest
from relatent.systems.spectrogram.training.schedule import learning_rate


@pytest.mark.parametrize("scheduler", ["constant", "cosine"])
@pytest.mark.parametrize("warmup", [0, 1, 10, 1000])
def test_never_zero(scheduler, warmup):
    rates = [learning_rate(1e-4, scheduler, warmup, step, 100) for step in range(100)]
    assert all(0.0 < rate <= 1e-4 for rate in rates)


def test_it_rises_and_stays_or_falls():
    constant, cosine = (
        [learning_rate(1.0, kind, 10, step, 100) for step in range(100)] for kind in ("constant", "cosine")
    )
    assert constant[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert set(constant[10:]) == {1.0}
    assert cosine[50] == pytest.approx(0.505)
    assert 0.01 < cosine[-1] < 0.011
    assert cosine[10:] == sorted(cosine[10:], reverse=True)
