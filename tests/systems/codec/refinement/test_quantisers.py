"""The relaxations of rounding, their noise and their temperature."""

import pytest
import torch
from relatent.systems.codec.refinement.noise import IterationNoise
from relatent.systems.codec.refinement.quantisers.registry import RELAXATIONS
from relatent.systems.codec.refinement.quantisers.sigmoid_scaled_logit import sigmoid_scaled_logit
from relatent.systems.codec.refinement.quantisers.stochastic_gumbel import stochastic_gumbel
from relatent.systems.codec.refinement.temperature import Annealing

VALUES = torch.tensor([-2.7, -0.4, 0.0, 0.05, 0.3, 0.5, 0.8, 3.0])


def uniform(x: torch.Tensor) -> torch.Tensor:
    return torch.rand(x.shape, generator=torch.Generator().manual_seed(1)).clamp_min(2.0**-25)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_a_relaxation_stays_between_the_neighbours_and_has_a_gradient(name):
    x = VALUES.repeat(2, 500).requires_grad_(True)
    found = RELAXATIONS[name].sample(x, torch.tensor([0.5, 0.1]), uniform)
    assert found.shape == x.shape
    assert ((found >= x.detach().floor() - 1e-6) & (found <= x.detach().floor() + 1 + 1e-6)).all()
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert gradient.isfinite().all()
    assert (gradient >= 0).all()
    assert gradient[:, 4::8].sum() > 0


def test_annealing_rounds_up_as_often_as_published():
    """P(up) = softmax(−atanh(distance) / τ); from Yang et al., 2020, equation 5, by numpy for v = 0.3."""
    x, tau = torch.full((1, 200_000), 0.3), 0.5
    found = stochastic_gumbel(x, torch.tensor([tau]), uniform)
    down, up = (torch.exp(-torch.atanh(torch.tensor(distance)) / tau) for distance in (0.3, 0.7))
    assert (found > 0.5).float().mean().item() == pytest.approx(float(up / (up + down)), abs=5e-3)


def test_the_scaled_logit_rounds_up_as_often_as_published():
    """P(up) is proportional to σ(a logit(v)) ** (1 / τ), arXiv 2401.17789; here for v = 0.3, a = 2."""
    x, tau = torch.full((1, 200_000), 0.3), 0.8
    found = sigmoid_scaled_logit(x, torch.tensor([tau]), uniform)
    up, down = (torch.sigmoid(2 * torch.logit(torch.tensor(v))) ** (1 / tau) for v in (0.3, 0.7))
    assert (found > 0.5).float().mean().item() == pytest.approx(float(up / (up + down)), abs=5e-3)


@pytest.mark.parametrize("name", ["sga", "ssl"])
def test_annealing_ends_in_rounding(name):
    x = torch.linspace(-3, 3, 601).view(1, -1)
    x = x[(x - x.floor() - 0.5).abs() > 0.05].view(1, -1)
    found = RELAXATIONS[name].sample(x, torch.tensor([0.005]), uniform)
    assert torch.equal(found.round(), torch.floor(x + 0.5))
    assert (found - found.round()).abs().max() < 1e-3


def test_noise_depends_on_the_seed_and_the_iteration_alone():
    x = torch.zeros(2, 3, 4)
    noise = IterationNoise(7, torch.tensor([5, 9]))
    first, second = noise(x), noise(x)
    assert not torch.equal(first, second)
    alone = IterationNoise(7, torch.tensor([9]))
    assert torch.equal(alone(x[:1]), first[1:])
    assert torch.equal(alone(x[:1]), second[1:])
    assert not torch.equal(IterationNoise(8, torch.tensor([9]))(x[:1]), first[1:])
    many = IterationNoise(0, torch.tensor([0]))(torch.zeros(1, 100_000))
    assert many.min() > 0
    assert many.max() < 1
    assert many.mean().item() == pytest.approx(0.5, abs=0.01)


def test_the_temperature_follows_from_the_step():
    annealing = Annealing(steps=2000, ceiling=0.5, rate=2.0, start=0.35, tail=0.1)  # those of Yang et al., and a tail
    found = annealing.temperature(torch.tensor([0, 700, 1500, 1799, 1800, 1999], dtype=torch.int32))
    torch.testing.assert_close(found, torch.tensor([0.5, 0.5, 0.44933, 0.33321, 0.0, 0.0]), rtol=1e-4, atol=0)
