"""Backward passes that leave out what hardly reaches the latents."""

import pytest
import torch
import torch.nn.functional as F
from helpers import small_kl
from relatent.benchmarks.research.evaluation_counter import count_costs, low_rank_iteration
from relatent.engine.autoencoders.frozen_conv import FrozenConv
from relatent.engine.autoencoders.loading import load_autoencoder
from relatent.engine.calibration import low_rank_backward as module
from relatent.engine.calibration.low_rank_backward import low_rank_backward, measure
from relatent.engine.calibration.preconditioner import whitening_kernel
from relatent.engine.errors import UsageError
from relatent.engine.inputs.images import load_image
from relatent.engine.inputs.sample_photographs import photographs
from relatent.engine.optimization.config import OptimizationConfig
from relatent.engine.optimization.loop import get_loop
from relatent.engine.optimization.optimizer import LatentOptimizer

SHAPE = (4, 16, 16)


@pytest.fixture(scope="module")
def tiny():
    return load_autoencoder("tiny", device="cpu")


@pytest.fixture(scope="module")
def photograph():
    """(1, 3, 128, 128), the fourth corner, which nothing is measured on."""
    return load_image(photographs()[2], 256).tensor()[..., :128, 128:]


@pytest.mark.parametrize(
    ("stride", "kernel", "transposed"), [(1, 3, False), (2, 3, False), (1, 1, False), (2, 4, True)]
)
@pytest.mark.parametrize("sides", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("turned", [False, True])
def test_projections_enter_at_both_sides(stride, kernel, transposed, sides, turned):
    """∂x ≈ P_in (w ∗ᵀ (P_out ∂out)), P the products of the factors."""
    draw = torch.Generator().manual_seed(0)
    shape = (6, 10, kernel, kernel) if transposed else (10, 6, kernel, kernel)
    conv = FrozenConv(torch.randn(shape, generator=draw), None, stride, kernel // 2 - transposed, transposed).double()
    x = torch.randn(2, 6, 9, 8, generator=draw, dtype=torch.float64, requires_grad=True)
    pull = torch.randn(conv(x).shape, generator=draw, dtype=torch.float64)
    factors = [
        tuple(torch.randn(size, generator=draw, dtype=torch.float64) for size in ((3, channels), (channels, 3)))
        for channels in (10, 6)
    ]
    expected = pull
    if sides[0]:
        expected = torch.einsum("or,rp,bphw->bohw", factors[0][1], factors[0][0], expected)
    (expected,) = torch.autograd.grad(conv(x), x, expected)
    if sides[1]:
        expected = torch.einsum("is,sj,bjhw->bihw", factors[1][1], factors[1][0], expected)
    before = conv(x)
    assert not turned or conv.turn() == (stride == 1)
    conv.set_low_rank(*(each if wanted else None for each, wanted in zip(factors, sides, strict=True)))
    torch.testing.assert_close(conv(x), before, rtol=0.0, atol=0.0)
    torch.testing.assert_close(torch.autograd.grad(conv(x), x, pull)[0], expected)


def test_gradients_are_as_near_as_was_asked_for(tiny, photograph):
    latents = tiny.encode(photograph)
    filter_ = whitening_kernel(tiny, SHAPE)

    def gradient(decode):
        z = latents.clone().requires_grad_(True)
        (pulled,) = torch.autograd.grad((decode(z) - photograph).square().sum(), z)
        return F.conv_transpose2d(pulled, filter_, padding=filter_.shape[-1] // 2)

    exact = gradient(tiny.decode)
    found, works = [], []
    for error in (0.05, 0.15):
        decode = tiny.loop_decoder("fp32", low_rank=low_rank_backward(tiny, SHAPE, error))
        torch.testing.assert_close(decode(latents), tiny.decode(latents), rtol=1e-4, atol=1e-4)
        found.append(float((gradient(decode) - exact).norm() / exact.norm()))
        works.append(low_rank_iteration(tiny, count_costs(tiny, photograph), photograph, error))
    assert 0.0 < found[0] < 0.1 < found[1] < 0.3
    assert works[1] < works[0] < 0.85


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_search_loses_nothing(tiny, photograph, precision):
    latents = tiny.encode(photograph)
    gains = {}
    for error in (0.0, 0.08):
        config = OptimizationConfig(iterations=16, gradient_error=error, precision=precision)
        result = LatentOptimizer(config).optimize(tiny, latents, photograph)
        gains[error] = result.metrics["psnr_improvement"]
    assert gains[0.08] == pytest.approx(gains[0.0], abs=0.05)
    assert gains[0.08] > 1.0


def test_the_last_iterations_are_exact(tiny, photograph):
    latents = tiny.encode(photograph)

    def loop(**settings):
        config = OptimizationConfig(precision="fp32", **settings)
        return get_loop(tiny, config, "fp32", latents, photograph, bucket=False)

    assert (loop().exact, loop().refinement_iterations) == (False, 13)
    assert (loop(gradient_error=0.0).exact, loop(gradient_error=0.0).refinement_iterations) == (True, 0)


def test_measured_once_and_stored(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    vae = load_autoencoder("tiny", device="cpu")
    first = low_rank_backward(vae, SHAPE, 0.3)
    (stored,) = (tmp_path / "relatent" / "low_rank_backward").iterdir()
    again = load_autoencoder("tiny", device="cpu")
    monkeypatch.setattr(module, "measure", lambda *_: pytest.fail("measured although it is stored"))
    for name, factors in low_rank_backward(again, (4, 40, 30), 0.3).factors.items():
        torch.testing.assert_close(factors, first.factors[name], rtol=0.0, atol=0.0)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    stored.write_bytes(b"damaged")
    again.cache.clear("low_rank")
    assert low_rank_backward(again, SHAPE, 0.3).factors.keys() == first.factors.keys()


def test_without_an_encoder_noise_will_do(tiny):
    bare = load_autoencoder(tiny.decoder, device="cpu")
    assert bare.encoder is None
    assert measure(bare, whitening_kernel(tiny, SHAPE), SHAPE[1:], 0.1)


class Fixed(torch.nn.Module):
    """A decoder of one size only."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, z):
        return self.decoder(z).reshape(z.shape[0], 3, 160, 160)


def test_what_cannot_be_approximated_stays_exact(tiny):
    assert low_rank_backward(tiny, SHAPE, 0.0) is None
    assert low_rank_backward(tiny, (64,), 0.1) is None
    function = load_autoencoder(lambda z: F.interpolate(z[:, :3], scale_factor=8), device="cpu")
    assert low_rank_backward(function, SHAPE, 0.1) is None
    assert (
        measure(load_autoencoder(Fixed(tiny.decoder), device="cpu"), whitening_kernel(tiny, SHAPE), (16, 16), 0.1) == {}
    )


def test_a_nonsensical_error_is_refused():
    for wrong in (-0.1, 1.0, "much"):
        with pytest.raises(UsageError, match="gradient_error: expected a fraction"):
            OptimizationConfig(gradient_error=wrong)


def test_small_decoders_have_little_to_leave_out():
    vae = load_autoencoder(small_kl(), device="cpu")
    decode = vae.loop_decoder("fp32", True, low_rank_backward(vae, (4, 8, 8), 0.1))
    assert decode(torch.zeros(1, 4, 8, 8)).shape == (1, 3, 64, 64)


@pytest.mark.parametrize(("stride", "transposed", "kernel"), [(1, False, 3), (1, False, 1), (2, True, 4)])
def test_what_ranks_cost_on_a_gpu(stride, transposed, kernel):
    """Whatever takes longer, multiplying or moving: by hand, per place of the output; and never less than multiplying."""
    outside, inside, side = 64, 128, 8
    shape = (inside, outside, kernel, kernel) if transposed else (outside, inside, kernel, kernel)
    conv = FrozenConv(torch.zeros(shape), None, stride, 1, transposed)
    output = torch.empty(1, outside, side, side)
    processor, gpu = (module.Layer(conv, output, on_gpu) for on_gpu in (False, True))
    assert processor.outputs.ranks.tolist() == list(range(8, 65, 8))
    assert gpu.outputs.ranks.tolist() == [32, 64]
    assert gpu.inputs.ranks.tolist() == [32, 64, 96, 128]
    taps, places = kernel**2 / stride**2, 1 / stride**2

    def cost(r, s):
        project = max(outside * r, module.MOVED * (outside + r)) if r < outside else 0
        expand = max(inside * s, module.MOVED * (inside + s)) * places if s < inside else 0
        return side**2 * (project + max(taps * r * s, module.MOVED * (r + s * places)) + expand)

    expected = torch.tensor([[cost(r, s) for s in (32, 64, 96, 128)] for r in (32, 64)], dtype=torch.float64)
    torch.testing.assert_close(gpu.cost, expected)
    assert gpu.cost[-1, -1] >= processor.cost[-1, -1], "the exact pass"
    if kernel == 1:  # moves more than it multiplies: nothing is won by two more launches
        assert gpu.cost.min() == gpu.cost[-1, -1]
