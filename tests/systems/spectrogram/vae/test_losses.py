"""Each term against its formula."""

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from relatent.engine.errors import RelatentError
from relatent.engine.losses import perceptual
from relatent.systems.spectrogram.vae.losses import VAELoss, fft_magnitude_mse

CPU = torch.device("cpu")


@pytest.fixture
def given():
    torch.manual_seed(0)
    reconstruction, target = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 3, 32, 32) * 2 - 1
    return reconstruction.requires_grad_(), target, DiagonalGaussianDistribution(torch.randn(2, 8, 16, 16))


def test_mse_and_kl(small_settings, given):
    reconstruction, target, posterior = given
    terms = VAELoss(small_settings(kl_weight=1e-3), CPU)(*given)
    assert set(terms) == {"loss", "mse", "kl"}
    assert terms["mse"].item() == pytest.approx(((reconstruction - target) ** 2).mean().item())
    assert terms["kl"].item() == pytest.approx(posterior.kl().mean().item(), rel=1e-5)  # diffusers' own
    assert terms["loss"].item() == pytest.approx((terms["mse"] + 1e-3 * terms["kl"]).item())


def test_the_kl_is_not_rounded_to_16_bits(small_settings):
    parameters = torch.randn(1, 8, 32, 32).bfloat16()
    exact = DiagonalGaussianDistribution(parameters.double()).kl().item()
    zeros = torch.zeros(1, 3, 32, 32)
    kl = VAELoss(small_settings(), CPU)(zeros, zeros, DiagonalGaussianDistribution(parameters))["kl"]
    assert kl.item() == pytest.approx(exact, rel=1e-2)
    assert kl.dtype == torch.float32


def test_fft_magnitudes(small_settings, given):
    reconstruction, target, _ = given
    assert fft_magnitude_mse(target, torch.zeros_like(target)).item() == pytest.approx(target.square().mean().item())
    shifted = target.roll((3, 5), (2, 3))  # the same magnitudes, other phases
    assert fft_magnitude_mse(shifted, target).item() < 1e-10 < (shifted - target).square().mean().item()
    terms = VAELoss(small_settings(fft_weight=0.5), CPU)(*given)
    expected = terms["mse"] + 1e-6 * terms["kl"] + 0.5 * fft_magnitude_mse(reconstruction, target)
    assert terms["loss"].item() == pytest.approx(expected.item())
    terms["fft"].backward()
    assert reconstruction.grad.isfinite().all()


def test_lpips_adds_its_weight(small_settings, given, monkeypatch):
    monkeypatch.setattr(perceptual, "require_network", lambda size, device: None)
    monkeypatch.setattr(perceptual, "lpips", lambda decoded, target: torch.tensor([1.0, 3.0]))
    terms = VAELoss(small_settings(use_lpips=True, lpips_weight=0.1), CPU)(*given)
    assert terms["lpips"].item() == 2.0
    assert terms["loss"].item() == pytest.approx((terms["mse"] + 1e-6 * terms["kl"]).item() + 0.2)


def test_lpips_that_is_not_there_is_one_line_before_any_work(small_settings, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(perceptual, "_networks", {})
    with pytest.raises(RelatentError, match=r"use_lpips: .*(weights|package).*--no-use_lpips") as caught:
        VAELoss(small_settings(use_lpips=True), CPU)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    with pytest.raises(RelatentError, match=r"pip install 'relatent\[lpips\]'.*--no-use_lpips"):
        VAELoss(small_settings(use_lpips=True), CPU)
