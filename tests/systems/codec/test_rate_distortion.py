"""The loss's value and terms, when the penalty is part of it, what it trains, and the names that are logged."""

import math

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.codec.inter_scale import InterScaleRegularizer
from relatent.systems.codec.logged_values import train_values
from relatent.systems.codec.rate_distortion import LAMBDAS, RateDistortionLoss
from relatent.systems.codec.spectral_truncation import SpectralTruncation


@pytest.fixture
def batch() -> dict:
    """Two pictures of 16 × 16 off by .1, 640 bits of y and 128 of z, latents of three scales."""
    torch.manual_seed(0)
    target = torch.rand(2, 3, 16, 16)
    return {
        "reconstruction": target + 0.1,
        "target": target,
        "bits": {"y": torch.tensor([[100.0, 200.0], [40.0, 300.0]]), "z": torch.full((2,), 64.0)},
        "latents_hierarchy": [torch.randn(2, 4, side, side, requires_grad=True) for side in (1, 2, 4)],
    }


def phase_2(**options) -> RateDistortionLoss:
    torch.manual_seed(1)
    return RateDistortionLoss(0.013, InterScaleRegularizer(channels=(4, 4, 4)), **options)


def test_lambdas():
    assert LAMBDAS == (0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483)


@pytest.mark.parametrize("lmbda", LAMBDAS)
def test_value(batch, lmbda):
    terms = RateDistortionLoss(lmbda)(**batch, epoch=0)
    expected = {"mse_loss": 0.01, "psnr": 20.0, "y_bpp": 1.25, "z_bpp": 0.25, "bpp_loss": 1.5, "inter_scale_reg": 0.0}
    expected["loss"] = lmbda * 65025 * 0.01 + 1.5
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_the_penalty_comes_with_epoch_t(batch):
    loss = phase_2()
    before, after, evaluated = (loss(**batch, epoch=epoch) for epoch in (99, 100, None))
    penalty = loss.regularizer(batch["latents_hierarchy"])
    assert penalty < -0.05
    assert before["inter_scale_reg"] == evaluated["inter_scale_reg"] == 0.0
    assert before["loss"] == evaluated["loss"]
    assert after["inter_scale_reg"] == penalty
    torch.testing.assert_close(after["loss"], before["loss"] + penalty)
    assert phase_2(start_epoch=0)(**batch, epoch=0)["inter_scale_reg"] < -0.05


def test_latents_that_are_missing_when_the_penalty_is_due_are_an_error(batch):
    """Else the penalty would stay at 0 unnoticed."""
    batch["latents_hierarchy"] = None
    assert phase_2()(**batch, epoch=99)["inter_scale_reg"] == 0.0
    with pytest.raises(UsageError, match=r"epoch 100 has it.*latents_hierarchy is None"):
        phase_2()(**batch, epoch=100)
    batch["latents_hierarchy"] = []
    assert phase_2()(**batch, epoch=100)["inter_scale_reg"] == 0.0


def test_alignments_are_parameters_of_the_loss(batch):
    loss = phase_2(start_epoch=0)
    assert sorted(loss.state_dict()) == [f"regularizer.channel_align.{i}.weight" for i in range(2)]
    before = [weight.detach().clone() for weight in loss.parameters()]
    assert len(before) == 2
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-2)
    loss(**batch, epoch=0)["loss"].backward()
    assert all(latent.grad.norm() > 0 for latent in batch["latents_hierarchy"])
    optimizer.step()
    assert all(not torch.equal(weight, old) for weight, old in zip(loss.parameters(), before, strict=True))


def test_gradient():
    torch.manual_seed(2)
    loss = phase_2(start_epoch=0).double()
    reconstruction, target = torch.rand(2, 1, 3, 4, 4, dtype=torch.float64)
    bits = torch.rand(1, 3, dtype=torch.float64, requires_grad=True)
    latents = [torch.randn(1, 4, side, side, dtype=torch.float64, requires_grad=True) for side in (1, 2)]

    def function(reconstruction, bits, *latents):
        return loss(reconstruction, target, {"y": bits}, latents, epoch=0)["loss"]

    assert torch.autograd.gradcheck(function, (reconstruction.requires_grad_(), bits, *latents))


def test_16_bits_are_summed_in_fp32():
    target = torch.full((1, 3, 64, 64), 0.5)
    terms = RateDistortionLoss()((target + 0.25).bfloat16(), target, {"y": torch.ones(1, 4097).bfloat16()})
    assert terms["y_bpp"].item() == 4097 / 4096
    assert terms["mse_loss"].item() == 0.0625


def test_equal_pictures_have_the_highest_psnr(batch):
    batch["reconstruction"] = batch["target"]
    assert RateDistortionLoss()(**batch)["psnr"].item() == 100.0


@pytest.mark.parametrize("lmbda", [0.0, -1.0, math.inf, math.nan])
def test_bad_lambdas_are_refused(lmbda):
    with pytest.raises(UsageError, match="lambda: expected a number above 0"):
        RateDistortionLoss(lmbda)


def test_logged_values(batch):
    names = [f"train/{name}" for name in ("loss", "bpp_loss", "mse_loss", "psnr", "y_bpp", "z_bpp", "lr")]
    names += [f"spectral/{name}" for name in ("tau", "phase", "inter_scale_reg")]
    loss, truncation = phase_2(), SpectralTruncation()
    found = {epoch: train_values(loss(**batch, epoch=epoch), 5e-5, epoch, truncation) for epoch in (0, 50, 100)}
    assert all(sorted(values) == sorted(names) for values in found.values())
    assert [found[epoch]["spectral/tau"] for epoch in found] == pytest.approx([0.05, 0.525, 1.0])
    assert [found[epoch]["spectral/phase"] for epoch in found] == ["phase1_intra", "phase1_intra", "baseline"]
    assert found[0]["spectral/inter_scale_reg"] == found[50]["spectral/inter_scale_reg"] == 0.0
    assert found[100]["spectral/inter_scale_reg"] < -0.05
    assert found[100]["train/loss"] == pytest.approx(found[0]["train/loss"] + found[100]["spectral/inter_scale_reg"])
    assert (found[0]["train/psnr"], found[0]["train/y_bpp"]) == pytest.approx((20.0, 1.25), rel=1e-5)
    assert found[0]["train/lr"] == 5e-5
    without = train_values(loss(**batch, epoch=0), 5e-5, 0)
    assert (without["spectral/tau"], without["spectral/phase"]) == (1.0, "baseline")
