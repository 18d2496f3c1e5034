"""The vector quantiser: the weights of its loss, its gradient, its codebook with and without running means."""

import math

import pytest
import torch
import torch.nn.functional as F
from relatent.engine.vector_quantiser import VectorQuantiser


def quantiser_of(codes: torch.Tensor, **options) -> VectorQuantiser:
    made = VectorQuantiser(*codes.shape, **options)
    made.codebook.data.copy_(codes)
    made.initialised.fill_(True)
    return made


CODES = torch.tensor([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]])
Z = torch.tensor([[0.1, 0.2], [0.9, 1.3]]).T.reshape(1, 2, 1, 1, 2)


def test_nearest_codes_loss_and_perplexity():
    out = quantiser_of(CODES)(Z)
    assert out.indices.tolist() == [[[[0, 1]]]]
    assert torch.equal(out.quantised.detach(), torch.tensor([[0.0, 1.0], [0.0, 1.0]]).reshape(1, 2, 1, 1, 2))
    assert out.vq_loss.item() == pytest.approx(1.25 * (0.01 + 0.04 + 0.01 + 0.09) / 4)
    assert out.perplexity.item() == pytest.approx(2)


def test_perplexity_weighs_codes_by_their_use():
    z = torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(2, 4).reshape(1, 2, 1, 2, 2)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert float(quantiser_of(CODES)(z).perplexity) == pytest.approx(math.exp(entropy))


def test_the_codebook_moves_with_weight_one_and_the_encoder_with_beta():
    """The original had the two weights swapped."""
    quantiser, z = quantiser_of(CODES), Z.clone().requires_grad_()
    quantiser(z).vq_loss.backward()
    difference = Z - quantiser(Z).quantised.detach()
    torch.testing.assert_close(z.grad, 0.25 * 2 * difference / Z.numel())
    torch.testing.assert_close(quantiser.codebook.grad[:2], -2 * difference[0, :, 0, 0].T / Z.numel())
    assert not quantiser.codebook.grad[2].any()


def test_any_number_of_axes_is_quantised_alike():
    vectors = torch.randn(2, 4, 24, generator=torch.Generator().manual_seed(0))
    quantiser = quantiser_of(torch.randn(5, 4, generator=torch.Generator().manual_seed(1))).eval()
    flat = quantiser(vectors)
    for axes in ((4, 6), (2, 3, 4)):
        out = quantiser(vectors.reshape(2, 4, *axes))
        assert torch.equal(out.indices, flat.indices.reshape(2, *axes))
        assert torch.equal(out.quantised, flat.quantised.reshape(2, 4, *axes))
        assert out.vq_loss.item() == pytest.approx(flat.vq_loss.item())


def test_the_gradient_goes_straight_through():
    z, weights = Z.clone().requires_grad_(), torch.arange(4.0).view_as(Z)
    (quantiser_of(CODES)(z).quantised * weights).sum().backward()
    assert torch.equal(z.grad, weights)


def test_ema_takes_no_gradient_and_only_the_commitment():
    quantiser = quantiser_of(CODES, use_ema=True).eval()
    out = quantiser(Z.clone().requires_grad_())
    assert out.vq_loss.item() == pytest.approx(0.25 * F.mse_loss(Z, out.quantised).item())
    out.vq_loss.backward()
    assert quantiser.codebook.grad is None
    assert not quantiser.codebook.requires_grad


def test_ema_moves_codes_to_the_means_of_their_vectors():
    quantiser = quantiser_of(CODES, use_ema=True, dead_code_share=0.0, ema_decay=0.5)
    quantiser.mean_sum.copy_(quantiser.share[:, None] * CODES)
    for _ in range(30):
        quantiser(Z)
    torch.testing.assert_close(quantiser.codebook[:2].detach(), Z[0, :, 0, 0].T, atol=1e-4, rtol=0)


def test_evaluation_changes_nothing():
    quantiser = VectorQuantiser(8, 4, use_ema=True).eval()
    before = {name: value.clone() for name, value in quantiser.state_dict().items()}
    quantiser(torch.randn(1, 4, 2, 2, 2))
    assert all(torch.equal(value, before[name]) for name, value in quantiser.state_dict().items())


@pytest.mark.parametrize("use_ema", [False, True])
def test_the_first_batch_gives_the_codes(use_ema):
    quantiser, z = VectorQuantiser(16, 4, use_ema=use_ema), 50 + torch.randn(1, 4, 4, 4, 4)
    assert len(quantiser(z).indices.unique()) == 16
    few = VectorQuantiser(100, 4, use_ema=use_ema)
    few(z)  # 64 vectors for 100 codes
    assert len(few.codebook.detach().unique(dim=0)) == 100


@pytest.mark.parametrize("use_ema", [False, True])
def test_no_code_dies_in_the_first_step(use_ema):
    """In the original 200 of 512 did: as many codes as specified, and the vectors of a batch of four at 128³."""
    torch.manual_seed(0)
    quantiser = VectorQuantiser(512, 256, use_ema=use_ema)
    z = torch.randn(4, 256, 8, 8, 8)
    quantiser(z.clone().requires_grad_()).vq_loss.backward()
    if not use_ema:
        torch.optim.AdamW(quantiser.parameters()).step()
    assert len(quantiser.eval()(z).indices.unique()) > 0.95 * 512


def share_in_use(drift: float, ema_decay: float, dead_code_share: float) -> float:
    """The codes in use after 400 steps, the first 100 of which move the vectors, as an encoder that learns does."""
    torch.manual_seed(0)
    quantiser = VectorQuantiser(64, 8, use_ema=True, ema_decay=ema_decay, dead_code_share=dead_code_share)
    for step in range(400):
        quantiser(torch.randn(1, 8, 4, 4, 4) + drift * min(step, 100))
    seen = quantiser.eval()(torch.randn(4, 8, 4, 4, 4) + drift * 100).indices
    return len(seen.unique()) / 64


@pytest.mark.parametrize(("drift", "ema_decay"), [(0.03, 0.99), (0.1, 0.9)])
def test_most_codes_stay_in_use_with_ema(drift, ema_decay):
    """In the original 200 of 512 codes died after one step; codes that are hardly used are replaced here."""
    assert share_in_use(drift, ema_decay, 0.1) >= 0.6
    assert share_in_use(drift, ema_decay, 0.0) < 0.6


def test_half_precision_is_quantised_in_full():
    with torch.autocast("cpu", torch.bfloat16):
        out = quantiser_of(CODES)(Z.bfloat16())
    assert out.quantised.dtype == out.vq_loss.dtype == torch.float32
