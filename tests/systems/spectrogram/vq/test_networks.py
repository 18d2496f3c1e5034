"""The VQ-VAE and the transformer: shapes, what depends on what, the cache of keys and values."""

import math

import pytest
import torch
from relatent.systems.spectrogram.vq.model_folder import build_transformer, build_vqvae
from relatent.systems.spectrogram.vq.settings import recipe_settings
from tiny_vq import TINY_TRANSFORMER, TINY_VQVAE

VQVAE, TRANSFORMER = recipe_settings("small", TINY_VQVAE, {**TINY_TRANSFORMER, "num_users": 3})
KEPT = torch.zeros(2, dtype=torch.bool)


@pytest.fixture
def transformer():
    model = build_transformer(TRANSFORMER, VQVAE).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # as trained ones are: not nearly 0
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model


def codes_of(count: int = 2, length: int = 15) -> torch.Tensor:
    return torch.randint(128, (count, length), generator=torch.Generator().manual_seed(0))


def test_pictures_to_codes_and_back():
    torch.manual_seed(0)
    model, pictures = build_vqvae(VQVAE), torch.randn(4, 3, 32, 32)
    model(pictures)  # the first codes are of the first batch
    model.eval()
    codes = model.encode(pictures)
    assert codes.shape == (4, 4, 4)
    assert codes.dtype == torch.int64
    reconstruction, quantised = model(pictures)
    assert torch.equal(quantised.indices, codes)
    torch.testing.assert_close(model.decode(codes), reconstruction, atol=1e-5, rtol=1e-5)


def test_latents_have_variance_one_before_they_are_quantised():
    model = build_vqvae(VQVAE)
    latents = model.norm(model.encoder(5 * torch.randn(8, 3, 32, 32)))
    torch.testing.assert_close(latents.var((0, 2, 3), correction=0), torch.ones(4), atol=0.01, rtol=0)


def test_the_gradient_reaches_the_encoder_through_the_codes():
    model, pictures = build_vqvae(VQVAE), torch.randn(4, 3, 32, 32)
    reconstruction, _ = model(pictures)
    (reconstruction - pictures).square().mean().backward()
    assert all(one.grad is not None and one.grad.any() for one in model.encoder.parameters() if one.ndim > 1)


def test_logits_depend_on_the_codes_before_alone(transformer):
    codes = codes_of()
    changed = codes.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 128
    with torch.no_grad():
        before, after = (transformer(one, torch.tensor([0, 1]), KEPT) for one in (codes, changed))
    assert before.shape == (2, 16, 128)
    differs = (before - after).abs().amax((0, 2)) > 1e-4
    assert differs.tolist() == [False] * 8 + [True] * 8


def test_every_logit_depends_on_the_user_unless_it_is_dropped(transformer):
    codes, one, other = codes_of(), torch.tensor([0, 1]), torch.tensor([2, 0])
    with torch.no_grad():
        first, second = (transformer(codes, users, KEPT) for users in (one, other))
        assert ((first - second).abs().amax((0, 2)) > 1e-4).all()
        assert torch.equal(transformer(codes, one, ~KEPT), transformer(codes, other, ~KEPT))
        assert not torch.equal(transformer(codes, one, ~KEPT), first)


def test_step_by_step_with_the_cache_is_the_whole_at_once(transformer):
    codes, users, cache = codes_of(), torch.tensor([0, 2]), []
    with torch.no_grad():
        whole = transformer(codes, users, KEPT)
        steps = [transformer.step(codes[:, i - 1] if i else None, users, KEPT, cache) for i in range(16)]
    torch.testing.assert_close(torch.stack(steps, 1), whole, atol=1e-5, rtol=1e-4)


def test_an_untrained_one_knows_nothing():
    model = build_transformer(TRANSFORMER, VQVAE).eval()
    codes = codes_of(length=16)
    with torch.no_grad():
        logits = model(codes[:, :-1], torch.tensor([0, 1]), KEPT)
    entropy = torch.nn.functional.cross_entropy(logits.flatten(0, 1), codes.flatten())
    assert float(entropy) == pytest.approx(math.log(128), abs=0.05)


def test_equal_seeds_give_equal_weights():
    pairs = zip(build_vqvae(VQVAE).parameters(), build_vqvae(VQVAE).parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
