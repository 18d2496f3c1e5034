"""Steps of the encoder's own correction before the first iteration."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from helpers import small_kl
from relatent.engine.autoencoders.autoencoder import Autoencoder
from relatent.engine.autoencoders.loading import load_autoencoder
from relatent.engine.autoencoders.rewrite import CPU_REWRITES, DEFAULT_REWRITES
from relatent.engine.optimization.config import OptimizationConfig
from relatent.engine.optimization.optimizer import LatentOptimizer
from relatent.engine.optimization.warm_start import warm_start


def test_follows_the_formula(small_vae, targets):
    config = OptimizationConfig(warm_start=2, warm_start_rate=0.3, precision="fp32")
    start = small_vae.encode(targets)
    expected = start
    for _ in range(2):
        expected = expected - 0.3 * (small_vae.encode(small_vae.decode(expected)) - start)
    found = warm_start(small_vae, config, start, targets)
    torch.testing.assert_close(found.latents, expected, rtol=1e-4, atol=1e-4)
    error = (small_vae.decode(start).clamp(-1, 1) - targets).square().flatten(1).mean(1)
    torch.testing.assert_close(found.error, error, rtol=1e-4, atol=1e-6)
    assert warm_start(small_vae, OptimizationConfig(warm_start=0), start, targets).latents is start


def test_takes_a_linear_autoencoder_to_its_fixed_point():
    """D(z) = 2z, E(x) = x: E(D(z)) = E(x) at z = x/2, approached by |1 − 2ρ| a step."""
    vae = Autoencoder(lambda z: 2.0 * z, lambda x: x.float(), name="linear")
    targets = torch.rand(1, 3, 8, 8) * 2 - 1
    config = OptimizationConfig(warm_start=3, warm_start_rate=0.4)
    found = warm_start(vae, config, targets.clone(), targets).latents
    torch.testing.assert_close(found, targets / 2 + targets / 2 * 0.2**3)


def test_without_an_encoder_there_is_none(targets):
    vae = load_autoencoder(small_kl().decoder, latent_channels=4, downscale_factor=8)
    start = torch.randn(3, 4, 4, 4)
    assert warm_start(vae, OptimizationConfig(warm_start=1), start, targets).latents is start


def test_in_bf16_as_in_fp32(small_vae, targets):
    start = small_vae.encode(targets)
    exact, low = (
        warm_start(small_vae, OptimizationConfig(precision=p), start, targets).latents for p in ("fp32", "bf16")
    )
    assert (low - exact).std() < 0.1 * (exact - start).std()


def test_a_warm_start_that_loses_is_not_returned(small_vae, targets):
    start = small_vae.encode(targets)
    config = OptimizationConfig(iterations=1, warm_start=1, warm_start_rate=50.0, relative_learning_rate=1e-6)
    for i, result in enumerate(LatentOptimizer(config).optimize_batch(small_vae, start, targets)):
        torch.testing.assert_close(result.initial_latents, start[i : i + 1])
        assert result.metrics["final_psnr"] >= result.metrics["initial_psnr"]


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_the_encoders_latents_are_decoded_in_fp32_once(small_vae, targets, monkeypatch, steps):
    """The result's figures are of that decoding, each image's own, also where the loop is in bf16."""
    start, seen = small_vae.encode(targets), []
    decoder = small_vae.loop_decoder("fp32")

    def watched(precision, *arguments, **options):
        found = plain(precision, *arguments, **options)
        if precision != "fp32":
            return found
        return dataclasses.replace(found, run=lambda latents, step: seen.append(latents) or found.run(latents, step))

    plain = small_vae.loop_decoder
    monkeypatch.setattr(small_vae, "loop_decoder", watched)
    config = OptimizationConfig(iterations=2, warm_start=steps, precision="bf16", refinement_iterations=0)
    results = LatentOptimizer(config).optimize_batch(small_vae, start, targets)
    assert sum(torch.equal(latents, start) for latents in seen) == 1
    for result, image in zip(results, decoder(start).clamp(-1, 1), strict=True):
        torch.testing.assert_close(result.initial_image[0], image)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gain_is_counted_from_the_encoders_latents(precision, targets):
    """Not from the warm start: the gain asked for is small enough that the warm start alone has it."""
    vae = load_autoencoder("tiny", device="cpu")
    pictures = F.interpolate(targets[:1], scale_factor=4.0, mode="bilinear")
    config = OptimizationConfig(iterations=5, target_gain=0.2, precision=precision)
    (result,) = LatentOptimizer(config).optimize_batch(vae, vae.encode(pictures), pictures)
    assert result.stop_reason == "target"
    assert result.convergence_iteration == 0
    assert 0.2 <= result.metrics["psnr_improvement"] < 3.0


@pytest.mark.parametrize(
    ("steps", "copies"), [(1, [("fp32", DEFAULT_REWRITES)]), (2, [("fp32", DEFAULT_REWRITES), ("bf16", CPU_REWRITES)])]
)
def test_decodes_with_the_loops_own_copy_of_the_decoder(targets, steps, copies):
    """The first step has the decoding in fp32; those after it rewrite the decoder as the loop does, and not once more."""
    vae = load_autoencoder(small_kl(), device="cpu")
    warm_start(vae, OptimizationConfig(warm_start=steps, precision="bf16"), vae.encode(targets), targets)
    assert [key[1:3] for key in vae.cache.values("copies") if key[0] == "decoder"] == copies
