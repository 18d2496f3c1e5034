"""Penalties on the latent: values, gradients, scale, and their place in the loop."""

import math

import pytest
import torch
from relatent import LatentOptimizer, OptimizationConfig
from relatent.engine.errors import UsageError
from relatent.engine.losses.registry import build_objective
from relatent.engine.losses.regularisers import REGULARISERS, build_penalty, parse_regularisers
from torch.distributions import Normal, kl_divergence

EVERYTHING = "0.3*l2_to_init + 0.02*tv(eps=0.1) + 0.5*prior"


@pytest.fixture
def pair():
    """(2, 4, 5, 6) latents and where they started, of two spreads, fp64."""
    torch.manual_seed(0)
    initial = torch.randn(2, 4, 5, 6, dtype=torch.float64) * torch.tensor([0.8, 5.5]).view(2, 1, 1, 1).double()
    return initial + 0.3 * torch.randn_like(initial), initial


def test_values(pair):
    latents, initial = pair
    for i in range(2):
        z, start = latents[i], initial[i]
        sigma = start.std(correction=0)
        assert REGULARISERS["l2_to_init"](*pair)[i].item() == pytest.approx((((z - start) / sigma) ** 2).mean().item())
        steps = sum((z.diff(dim=axis) / sigma).abs().mean() for axis in (1, 2))
        assert REGULARISERS["tv"](*pair, eps=1e-6)[i].item() == pytest.approx(steps.item(), abs=1e-5)
        moments = [Normal(x.mean((1, 2)), x.std((1, 2), correction=0)) for x in (z, start)]
        assert REGULARISERS["prior"](*pair)[i].item() == pytest.approx(kl_divergence(*moments).mean().item(), rel=1e-2)


@pytest.mark.parametrize("name", sorted(REGULARISERS))
def test_gradients_and_scale(pair, name):
    latents, initial = pair
    function = REGULARISERS[name]
    assert torch.autograd.gradcheck(lambda z: function(z, initial), latents.clone().requires_grad_(True))
    torch.testing.assert_close(function(7.0 * latents, 7.0 * initial), function(latents, initial))
    at_start = function(initial, initial)
    torch.testing.assert_close(at_start, function(initial, initial) if name == "tv" else torch.zeros_like(at_start))
    flat = torch.ones(2, 4, 1, 6, dtype=torch.float64).requires_grad_(
        True
    )  # no spread, and one axis without neighbours
    (gradient,) = torch.autograd.grad(function(flat, flat.detach()).sum(), flat)
    assert torch.isfinite(gradient).all()


def test_a_doubled_spectrum(pair):
    """Twice the power at every frequency is ½ (2 − 1 − ln 2); another mean, and another phase, are 0."""
    initial = pair[1] - pair[1].mean((2, 3), keepdim=True)
    doubled = REGULARISERS["spectrum"](2.0**0.5 * initial, initial)
    torch.testing.assert_close(doubled, torch.full_like(doubled, 0.5 * (1.0 - math.log(2.0))), rtol=1e-2, atol=0.0)
    unchanged = REGULARISERS["spectrum"](initial.roll((2, 3), (2, 3)) + 5.0, initial)
    torch.testing.assert_close(unchanged, torch.zeros_like(unchanged))
    rougher = initial + 0.5 * torch.ones(5, 6).double().cumsum(1).remainder(2) * initial.std()
    assert (REGULARISERS["spectrum"](rougher, initial) > 0.01).all()
    line = initial[:, :, 0]  # any number of spatial axes, and one cell
    assert REGULARISERS["spectrum"](2.0 * line, line).min() > 0.1
    assert not REGULARISERS["spectrum"](2.0 * line[..., :1], line[..., :1]).any()


def test_expressions():
    assert build_penalty("") is None
    assert [(term.weight, term.name) for term in parse_regularisers("0.1*l2_to_init + tv")] == [
        (0.1, "l2_to_init"), (1.0, "tv"),
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"regularisers: cannot read 'mse'.*of prior, tv, l2_to_init"):
        OptimizationConfig(regularisers="0.1*tv + mse")
    with pytest.raises(UsageError, match="prior has no parameter 'eps'; it has none"):
        OptimizationConfig(regularisers="prior(eps=1)")


@pytest.mark.parametrize("loss", ["mse", "psnr"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_loop_follows_the_total(small_vae, targets, loss, precision):
    """Losses are those of loss and penalties; the result is no worse than its start in that sum, in fp32."""
    latents = small_vae.encode(targets)
    config = OptimizationConfig(
        iterations=10,
        regularisers=EVERYTHING,
        loss_function=loss,
        precision=precision,
        convergence_threshold=0.0,
        warm_start=0,
    )
    objective, penalty = build_objective(loss), build_penalty(EVERYTHING)

    def total(z, i):
        return (
            objective(small_vae.decode(z), targets[i : i + 1]) + penalty(z, latents[i : i + 1], torch.zeros(1))
        ).item()

    for i, result in enumerate(LatentOptimizer(config).optimize_batch(small_vae, latents, targets)):
        start, end = total(latents[i : i + 1], i), total(result.optimized_latents, i)
        assert result.losses[0] == pytest.approx(start, rel=1e-4 if precision == "fp32" else 0.05)
        assert end < start
        assert result.metrics["loss_reduction"] == pytest.approx((start - end) / abs(start), rel=1e-3)
        assert end <= min(result.losses) + (1e-5 if precision == "fp32" else 0.05) * abs(start)


def test_the_gradient_in_the_step_is_autograds(small_vae, targets):
    """With β = 0, what Adam's first moment holds is the whole gradient."""
    from helpers import started
    from relatent.engine.optimization.step import build_step

    config = OptimizationConfig(iterations=2, regularisers=EVERYTHING, betas=(0.0, 0.0), precision="fp32")
    slots = started(small_vae, targets, config)
    slots.latents += 0.1 * torch.randn_like(slots.latents)
    slots.decoder_input.data.copy_(slots.latents)
    z = slots.latents.clone().requires_grad_(True)
    total = build_objective("mse")(small_vae.decode(z), targets) + build_penalty(EVERYTHING)(
        z, slots.initial, slots.step
    )
    (expected,) = torch.autograd.grad(total.sum(), z)
    build_step(small_vae.loop_decoder("fp32"), config, torch.device("cpu"))(slots)
    torch.testing.assert_close(slots.exp_avg, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("regulariser", "strength"), [("l2_to_init", 3.0), ("prior", 30.0), ("tv", 3.0)])
def test_each_holds_back_what_it_is_for(small_vae, targets, regulariser, strength):
    latents = small_vae.encode(targets)
    ends = {}
    for expression in ("", f"{strength}*{regulariser}"):
        config = OptimizationConfig(iterations=15, regularisers=expression, precision="fp32", convergence_threshold=0.0)
        ends[expression] = torch.cat(
            [r.optimized_latents for r in LatentOptimizer(config).optimize_batch(small_vae, latents, targets)]
        )
    free, held = (REGULARISERS[regulariser](z, latents) for z in ends.values())
    assert (held < free).all()
