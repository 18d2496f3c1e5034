"""Phase 1: the schedule's values, the mask, the identity from epoch T on, the jump at T and the ramp without it."""

import math
from itertools import pairwise

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.codec.spectral_truncation import SpectralTruncation
from relatent.systems.codec.transforms.dct import dct_2d


def noise_energy(truncation: SpectralTruncation, epoch: float) -> float:
    """The part of white noise's energy that epoch `epoch` lets through at 256 × 256."""
    return truncation.mask(256, 256, epoch).square().mean().item()


@pytest.mark.parametrize(("epoch", "tau"), [(0, 0.05), (50, 0.525), (100, 1.0), (2999, 1.0)])
def test_tau(epoch, tau):
    assert SpectralTruncation().tau(epoch) == pytest.approx(tau, abs=1e-12)


def test_phase():
    assert [SpectralTruncation().phase(epoch) for epoch in (0, 99, 100, 101)] == [
        "phase1_intra", "phase1_intra", "baseline", "baseline",
    ]  # fmt: skip


def test_mask_values():
    """τ = .5 at epoch 2 of 4 from .25 to .75: M = 1 − r / .5 inside the radius .5, else 0."""
    mask = SpectralTruncation(0.25, 0.75, epochs=4).mask(8, 4, epoch=2)
    assert mask.shape == (8, 4)
    assert mask[0, 0] == 1.0
    assert mask[1, 1].item() == pytest.approx(1 - math.hypot(1 / 8, 1 / 4) / 0.5)
    assert mask[2, 1].item() == pytest.approx(1 - math.hypot(2 / 8, 1 / 4) / 0.5)
    assert mask[4, 0] == mask[0, 2] == mask[7, 3] == 0.0


def test_a_picture_keeps_its_mean_and_loses_its_high_frequencies():
    torch.manual_seed(0)
    images, truncation = torch.rand(2, 3, 64, 48), SpectralTruncation()
    shown = truncation(images, 0)
    torch.testing.assert_close(shown.mean((2, 3)), images.mean((2, 3)))
    torch.testing.assert_close(dct_2d(shown), dct_2d(images) * truncation.mask(64, 48, 0), atol=1e-5, rtol=0)
    kept = dct_2d(shown).abs() > 1e-4
    assert kept[:, :, 4:].sum() == kept[:, :, :, 3:].sum() == 0  # r ≥ .05 from row 3.2 and column 2.4 on
    assert kept[:, :, 1, 1].any()


@pytest.mark.parametrize("epoch", [100, 100.5, 3000])
def test_the_identity_from_epoch_t_on(epoch):
    images = torch.rand(1, 3, 16, 16)
    assert SpectralTruncation()(images, epoch) is images
    assert SpectralTruncation(ramp_epochs=100)(images, epoch) is images
    assert torch.equal(SpectralTruncation().mask(5, 4, epoch), torch.ones(5, 4))
    assert SpectralTruncation(epochs=0)(images, 0) is images


def test_the_published_schedule_jumps_at_epoch_t():
    """Towards T white noise keeps ∫(1 − r)² over the quarter disc, π / 24 = 13.1 %, of its energy; from T on all of it."""
    truncation = SpectralTruncation()
    assert noise_energy(truncation, 99) == pytest.approx(0.13, abs=0.001)
    assert noise_energy(truncation, 100) == 1.0


def test_the_ramp_has_no_jump():
    plain, ramp = SpectralTruncation(), SpectralTruncation(ramp_epochs=50)
    energies = [noise_energy(ramp, epoch) for epoch in range(101)]
    steps = [after - before for before, after in pairwise(energies)]
    assert min(steps) > 0
    assert max(steps) < 0.03
    assert energies[:51] == [noise_energy(plain, epoch) for epoch in range(51)]  # the published one until T − 50
    assert noise_energy(ramp, 99.999) == pytest.approx(1.0, abs=1e-4)


def test_gradient():
    torch.manual_seed(1)
    images = torch.rand(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: SpectralTruncation()(x, 50), images)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(tau_init=0.0),
        dict(tau_init=1.5),
        dict(tau_final=math.inf),
        dict(tau_init=math.nan),
        dict(epochs=-1),
        dict(ramp_epochs=101),
        dict(ramp_epochs=-1),
    ],
)
def test_bad_schedules_are_refused(wrong):
    with pytest.raises(UsageError, match=f"expected 0 .*found .*{next(iter(wrong))}={next(iter(wrong.values()))}"):
        SpectralTruncation(**wrong)
