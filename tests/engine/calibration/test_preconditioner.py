"""The coordinates Adam runs in: what they are measured as, that they are exact, and that they help."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from helpers import small_kl
from relatent.engine.autoencoders.loading import load_autoencoder
from relatent.engine.calibration import preconditioner as module
from relatent.engine.calibration.preconditioner import measure, whiten, whitening_kernel
from relatent.engine.coordinates import WhiteningCoordinates
from relatent.engine.losses.metrics import psnr
from relatent.engine.optimization.config import OptimizationConfig
from relatent.engine.optimization.optimizer import LatentOptimizer
from relatent.engine.optimization.slots import Slots
from torch import nn


@pytest.fixture
def filter_():
    torch.manual_seed(0)
    return torch.randn(4, 4, 5, 5) * 0.1


def white(channels, side, values):
    """A spectrum that is the same at all frequencies."""
    return torch.diag(torch.tensor(values)).to(torch.complex64).expand(side, side, channels, channels)


def test_whitens_channels_by_their_curvature():
    """A flat spectrum diag(s) gives the filter diag((s / mean + 1)^-½), one tap, scaled to keep white noise's variance."""
    found = whiten(white(3, 8, [0.5, 1.0, 1.5]))
    expected = torch.tensor([1.5, 2.0, 2.5]).rsqrt()
    expected = expected / expected.square().mean().sqrt()
    torch.testing.assert_close(found[:, :, 3, 3], torch.diag(expected))
    assert found.square().sum() == pytest.approx(expected.square().sum().item(), rel=1e-5)


@pytest.mark.parametrize("spectrum", [torch.zeros(6, 6, 2, 2), torch.full((6, 6, 2, 2), float("nan"))])
def test_what_cannot_be_whitened_stays(spectrum):
    found = whiten(spectrum.to(torch.complex64))
    latents = torch.randn(1, 2, 7, 9)
    torch.testing.assert_close(F.conv2d(latents, found, padding="same"), latents)


def test_makes_a_linear_decoder_equally_sensitive():
    """Of a convolution as decoder: JᵀJ seen through P has a far smaller condition number than JᵀJ."""
    torch.manual_seed(1)
    decoder = nn.Conv2d(2, 3, 3, padding=1)
    with torch.no_grad():
        decoder.weight[:, 1] *= 8.0
    vae = load_autoencoder(decoder, latent_channels=2, downscale_factor=1)
    found = measure(vae, 2, (16, 16))

    def curvature(through):
        def picture(w):
            return decoder(through(w)) - decoder.bias.view(1, -1, 1, 1)

        jacobian = torch.autograd.functional.jacobian(picture, torch.zeros(1, 2, 12, 12)).reshape(-1, 288)
        return torch.linalg.eigvalsh(jacobian.T @ jacobian)

    before, after = curvature(lambda w: w), curvature(lambda w: F.conv2d(w, found, padding="same"))
    assert (after[-1] / after.mean()) < 0.7 * (before[-1] / before.mean())
    assert (after[-1] / after.median()) < 0.3 * (before[-1] / before.median())


def test_measured_once_and_stored(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    vae = load_autoencoder(small_kl(), device="cpu")
    first = whitening_kernel(vae, (4, 8, 8))
    (stored,) = tmp_path.rglob("*.pt")
    torch.testing.assert_close(first, measure(vae, 4, (8, 8)))
    again = load_autoencoder(small_kl(), device="cpu")
    monkeypatch.setattr(module, "measure", lambda *_: pytest.fail("measured although it is stored"))
    assert torch.equal(whitening_kernel(again, (4, 8, 8)), first)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    stored.write_bytes(b"damaged")
    again.cache.clear("coordinates")
    torch.testing.assert_close(whitening_kernel(again, (4, 8, 8)), first)
    assert whitening_kernel(vae, (4, 20, 30)) is whitening_kernel(vae, (4, 16, 64)), (
        "one measurement for all sizes above"
    )


@pytest.mark.parametrize("shape", [(4, 2, 8), (8,), (4, 3, 8, 8)])
def test_latents_that_are_no_pictures_go_without(shape):
    assert whitening_kernel(load_autoencoder(small_kl(), device="cpu"), shape) is None


def test_gradient_is_the_adjoint(filter_):
    """⟨P w, g⟩ = ⟨w, Pᵀ g⟩, for a filter that is not symmetric."""
    latents = torch.randn(2, 4, 7, 6)
    slots = Slots.empty(
        latents, torch.zeros(2, 3, 56, 48), OptimizationConfig(), torch.float32, False, WhiteningCoordinates(filter_)
    )
    w, g = torch.randn_like(latents), torch.randn_like(latents)
    left, right = (slots.to_latents(w) * g).sum(), (w * slots.coordinates.vjp(g)).sum()
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


def test_slots_hand_out_latents(filter_):
    latents, origin = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6)
    slots = Slots.empty(
        latents, torch.zeros(2, 3, 48, 48), OptimizationConfig(), torch.bfloat16, False, WhiteningCoordinates(filter_)
    )
    slots.load([0, 1], latents, torch.zeros(2, 3, 48, 48), OptimizationConfig(), origin=origin)
    torch.testing.assert_close(slots.in_latent_space().latents, origin)
    assert torch.equal(slots.initial, latents)
    slots.latents.normal_()
    part = slots.take([1], torch.float32)
    expected = origin[1:] + F.conv2d(slots.latents[1:], filter_, padding=2)
    torch.testing.assert_close(part.decoder_input.detach(), expected)
    torch.testing.assert_close(part.in_latent_space().latents, expected)
    assert part.in_latent_space().coordinates.direct


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("warm", [0, 1])
def test_more_decibels_for_the_same_iterations(precision, warm, targets):
    """On the bundled autoencoder; the result's picture is its latents decoded."""
    vae = load_autoencoder("tiny", device="cpu")
    pictures = F.interpolate(targets, scale_factor=2.0, mode="bilinear")
    start = vae.encode(pictures)
    config = OptimizationConfig(iterations=5, precision=precision, warm_start=warm)
    plain = dataclasses.replace(
        config, precondition=False, beta_rise=0, betas=(0.9, 0.999), relative_learning_rate=0.073
    )
    ours, theirs = (LatentOptimizer(c).optimize_batch(vae, start, pictures) for c in (config, plain))
    gains = [[result.metrics["psnr_improvement"] for result in results] for results in (ours, theirs)]
    assert sum(gains[0]) > sum(gains[1])
    for i, result in enumerate(ours):
        torch.testing.assert_close(result.initial_latents, start[i : i + 1])
        stored = vae.decode(result.optimized_latents.half().float())
        assert psnr(stored, pictures[i : i + 1]).item() > result.metrics["final_psnr"] - 0.02, "breaks in fp16"
        torch.testing.assert_close(
            vae.decode(result.optimized_latents).clamp(-1, 1), result.optimized_image, atol=1e-3, rtol=0
        )
