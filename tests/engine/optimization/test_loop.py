"""The loop against torch.optim.Adam, and each rule of stopping."""

from dataclasses import replace

import pytest
import torch
from helpers import PLAIN, run_loop
from relatent import LatentOptimizer, OptimizationConfig, load_autoencoder
from relatent.engine.losses.metrics import psnr
from relatent.engine.optimization.slots import CONVERGED, NON_FINITE


def adam_reference(decode, latents, target, steps, rate, betas, eps=1e-8):
    """The original loop: eager, one image at a time. Returns the last iterate and the losses."""
    latents = latents.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([latents], lr=rate, betas=betas, eps=eps)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(decode(latents), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return latents.detach(), losses


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.7, 0.9)])
def test_equals_torch_adam_image_by_image(small_vae, targets, betas):
    config = OptimizationConfig(
        iterations=12, learning_rate=0.05, betas=betas, convergence_threshold=0.0, schedule="constant", **PLAIN
    )
    latents = small_vae.encode(targets)
    state = run_loop(small_vae.decode, latents, targets, config, torch.float32)
    for i in range(len(targets)):
        expected, losses = adam_reference(small_vae.decode, latents[i : i + 1], targets[i : i + 1], 12, 0.05, betas)
        torch.testing.assert_close(state.latents[i : i + 1], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(state.losses[i, :-1], torch.tensor(losses), rtol=1e-4, atol=1e-6)


def test_result_does_not_depend_on_neighbours(small_vae, targets):
    optimizer = LatentOptimizer(OptimizationConfig(iterations=8, precision="fp32"))
    latents = small_vae.encode(targets)
    together = optimizer.optimize_batch(small_vae, latents, targets)
    for i, result in enumerate(together):
        alone = optimizer.optimize(small_vae, latents[i : i + 1], targets[i : i + 1])
        torch.testing.assert_close(result.optimized_latents, alone.optimized_latents, rtol=1e-3, atol=1e-3)
        assert result.metrics["final_psnr"] == pytest.approx(alone.metrics["final_psnr"], abs=0.01)


def test_gains_and_reports_what_it_returns(small_vae, targets):
    latents = small_vae.encode(targets)
    before = latents.clone()
    for result in LatentOptimizer(OptimizationConfig(iterations=15)).optimize_batch(small_vae, latents, targets):
        assert result.metrics["psnr_improvement"] > 0
        assert result.metrics["loss_reduction"] > 0
        assert len(result.losses) == 15
        assert result.optimized_latents.dtype == torch.float32
    index = 2
    decoded = small_vae.decode(result.optimized_latents)
    assert psnr(decoded, targets[index : index + 1]).item() == pytest.approx(result.metrics["final_psnr"], abs=1e-3)
    torch.testing.assert_close(decoded.clamp(-1, 1), result.optimized_image)
    assert torch.equal(latents, before), "the caller's latents were changed"


def test_never_worse_than_the_start(small_vae, targets):
    """A rate far too high only ever loses; the start is then the best seen."""
    config = OptimizationConfig(iterations=5, relative_learning_rate=1e4, convergence_threshold=0.0)
    latents = small_vae.encode(targets)
    good = [
        r.optimized_latents
        for r in LatentOptimizer(OptimizationConfig(iterations=60)).optimize_batch(small_vae, latents, targets)
    ]
    for result in LatentOptimizer(config).optimize_batch(small_vae, torch.cat(good), targets):
        assert result.metrics["final_psnr"] >= result.metrics["initial_psnr"]
        assert result.metrics["loss_reduction"] >= 0.0


def test_each_image_converges_on_its_own(small_vae, targets):
    """The first image starts at its optimum (the target is its own decode) and stops; its neighbours go on."""
    latents = small_vae.encode(targets)
    targets = targets.clone()
    targets[0] = small_vae.decode(latents[:1])[0].clamp(-1, 1)
    config = OptimizationConfig(iterations=30, convergence_threshold=0.02, convergence_window=4, learning_rate=0.02)
    state = run_loop(small_vae.decode, latents, targets, config, torch.float32)
    assert state.stop_code[0] == CONVERGED
    assert state.stop_iteration[0] == 4
    assert not torch.isnan(state.losses[1, :-1]).any() or state.stop_iteration[1] > 4
    assert torch.isnan(state.losses[0, 5:-1]).all()


def test_stops_early_when_all_are_done(small_vae, targets):
    calls = []
    config = OptimizationConfig(
        iterations=40, convergence_threshold=0.9, convergence_window=2, checkpoint_interval=5, precision="fp32"
    )
    latents = small_vae.encode(targets)
    results = LatentOptimizer(config).optimize_batch(small_vae, latents, targets, on_checkpoint=calls.append)
    assert calls == [3], "on CPU the loop looks at every iteration"
    assert all(result.convergence_iteration == 2 and len(result.losses) == 3 for result in results)
    assert all(result.stop_reason == "converged" for result in results)


def test_target_gain_stops_each_image(small_vae, targets):
    config = OptimizationConfig(iterations=80, target_gain=0.5, convergence_threshold=0.0)
    results = LatentOptimizer(config).optimize_batch(small_vae, small_vae.encode(targets), targets)
    for result in results:
        assert result.stop_reason == "target"
        assert 0.5 <= result.metrics["psnr_improvement"] + 1e-3 < 3.0
        assert result.convergence_iteration == len(result.losses) - 1


def test_target_psnr_stops_each_image_as_soon_as_it_is_there(small_vae, targets):
    latents = small_vae.encode(targets)
    free = OptimizationConfig(  # each iteration alike, however many there are
        iterations=200, precision="fp32", convergence_threshold=0.0, relative_learning_rate=0.02, schedule="constant",
        gradient_error=0.0,
    )  # fmt: skip
    goal = psnr(small_vae.decode(latents), targets).max().item() + 0.05
    results = LatentOptimizer(replace(free, target_psnr=goal)).optimize_batch(small_vae, latents, targets)
    assert len({result.convergence_iteration for result in results}) == 3, "they stopped together"
    for i, result in enumerate(results):
        assert result.stop_reason == "target"
        assert result.metrics["final_psnr"] >= goal - 1e-3
        assert result.convergence_iteration == len(result.losses) - 1
        one_less = LatentOptimizer(replace(free, iterations=result.convergence_iteration - 1))
        before = one_less.optimize(small_vae, latents[i : i + 1], targets[i : i + 1])
        assert before.metrics["final_psnr"] < goal


def test_an_image_above_its_target_keeps_its_initial_latent(small_vae, targets):
    latents = small_vae.encode(targets)
    for precision in ("fp32", "bf16"):
        config = OptimizationConfig(iterations=60, precision=precision, convergence_threshold=0.0, target_psnr=1.0)
        start = LatentOptimizer(config).optimize_batch(small_vae, latents, targets)
        for result, latent in zip(start, latents, strict=True):
            assert result.stop_reason == "target"
            assert result.convergence_iteration == 0
            assert len(result.losses) == 1
            assert torch.equal(result.optimized_latents[0], latent)
        # between two starts: the better one is done at once, the others go on
        starts = sorted(result.metrics["initial_psnr"] for result in start)
        between = replace(config, target_psnr=(starts[-1] + starts[-2]) / 2)
        ends = LatentOptimizer(between).optimize_batch(small_vae, latents, targets)
        assert sorted(result.convergence_iteration == 0 for result in ends) == [False, False, True]
        assert all(result.stop_reason == "target" for result in ends)


@pytest.mark.parametrize(("gain", "above", "first"), [(0.3, 2.0, 0.3), (2.0, 0.3, 0.3)])
def test_of_two_targets_the_first_that_is_reached_ends(small_vae, targets, gain, above, first):
    latents = small_vae.encode(targets[:1])
    config = OptimizationConfig(iterations=80, precision="fp32", convergence_threshold=0.0, target_gain=first)
    alone = LatentOptimizer(config).optimize(small_vae, latents, targets[:1])
    both = replace(config, target_gain=gain, target_psnr=alone.metrics["initial_psnr"] + above)
    result = LatentOptimizer(both).optimize(small_vae, latents, targets[:1])
    assert result.stop_reason == "target"
    assert result.convergence_iteration == alone.convergence_iteration
    assert first <= result.metrics["psnr_improvement"] + 1e-3 < 2.0


class Poisoned(torch.nn.Module):
    """Decodes well, until an image's first latent exceeds a limit: then NaN, for that image only."""

    def __init__(self, vae, limit):
        super().__init__()
        self.vae, self.limit = vae, limit

    def forward(self, latents):
        poison = torch.where(latents[:, 0, 0, 0] > self.limit, torch.nan, 0.0)
        return self.vae.decode(latents) + poison.view(-1, 1, 1, 1)


def test_nan_in_one_image_leaves_its_neighbours_alone(small_vae, targets):
    latents = small_vae.encode(targets)
    config = OptimizationConfig(iterations=10, learning_rate=0.05, convergence_threshold=0.0, precision="fp32", **PLAIN)
    clean = LatentOptimizer(config).optimize_batch(small_vae, latents, targets)
    trajectory = clean[1].optimized_latents[0, 0, 0, 0] - latents[1, 0, 0, 0]
    sign = 1.0 if trajectory > 0 else -1.0
    limit = (latents[1, 0, 0, 0] * sign + 0.12).item()

    def decode(z):
        poison = torch.where((z[:, 0, 0, 0] * sign > limit) & (torch.arange(len(z)) == 1), torch.nan, 0.0)
        return small_vae.decode(z) + poison.view(-1, 1, 1, 1)

    state = run_loop(decode, latents, targets, config, torch.float32)
    assert state.stop_code.tolist() == [0, NON_FINITE, 0]
    assert torch.isfinite(state.best_latents).all()
    assert torch.isfinite(state.latents[1]).all()
    assert state.best_loss[1] < state.losses[1, 0]
    for i in (0, 2):
        torch.testing.assert_close(state.losses[i, :-1], torch.tensor(clean[i].losses), rtol=1e-4, atol=1e-6)


def test_nan_is_marked_and_falls_back(small_vae, targets):
    latents = small_vae.encode(targets[:1])
    vae = load_autoencoder(Poisoned(small_vae, latents[0, 0, 0, 0].item() - 1.0), latent_channels=4, downscale_factor=8)
    result = LatentOptimizer(OptimizationConfig(iterations=4)).optimize(vae, latents, targets[:1])
    assert result.stop_reason == "non-finite"
    assert torch.equal(result.optimized_latents, latents)
    assert result.convergence_iteration is None


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_ends_within_a_tenth_of_a_decibel(targets, precision):
    vae = load_autoencoder("tiny", device="cpu")
    targets = torch.nn.functional.interpolate(targets[:2], size=64, mode="bilinear")
    latents = vae.encode(targets)
    ends = {}
    for name in ("fp32", precision):
        config = OptimizationConfig(iterations=8, precision=name)
        results = LatentOptimizer(config).optimize_batch(vae, latents, targets)
        ends[name] = sum(result.metrics["final_psnr"] for result in results) / len(results)
    assert ends[precision] == pytest.approx(ends["fp32"], abs=0.1)
