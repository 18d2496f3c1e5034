"""The priors: values against their definitions, gradients, what they prefer, files."""

import math

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.model.vqvae import build_vqvae_3d
from relatent.systems.anomaly.restoration.normality import Normality
from relatent.systems.anomaly.restoration.priors.code_prior import CodeContext
from relatent.systems.anomaly.restoration.priors.gaussian_mixture import GaussianMixturePrior
from relatent.systems.anomaly.restoration.priors.nearest_code import NearestCode
from relatent.systems.anomaly.restoration.priors.registry import PRIORS, build_prior


def test_nearest_code_is_the_distance_to_it():
    prior = NearestCode(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    latents = torch.tensor([[3.0, 4.0], [1.0, 0.0]]).view(2, 2, 1, 1, 1)
    assert prior(latents, latents).tolist() == [0.0, 0.5]  # |(1, 0)|² over two dimensions


def test_the_mixtures_value_is_the_density():
    weights, means, variances = (
        torch.tensor([0.25, 0.75]),
        torch.tensor([[0.0, 1.0], [2.0, -1.0]]),
        torch.full((2, 2), 0.5),
    )
    vector = torch.tensor([0.5, 0.5])
    density = sum(
        float(w) * math.exp(-float((vector - m).square().sum()) / (2 * 0.5)) / (2 * math.pi * 0.5)
        for w, m in zip(weights, means, strict=True)
    )
    found = GaussianMixturePrior(weights, means, variances)(vector.view(1, 2, 1, 1, 1), vector)
    assert found.item() == pytest.approx(-math.log(density) / 2, rel=1e-5)


def test_the_context_of_a_code_does_not_see_the_code():
    torch.manual_seed(0)
    context = CodeContext(5, 3, 4, 4, 4)
    codes = torch.randn(1, 3, 4, 4, 4)
    other = codes.clone()
    other[0, :, 1, 2, 3] += 1.0
    same = (context(codes) == context(other)).all(1)[0]
    assert same[1, 2, 3]
    assert not same[1, 2, 2]
    assert not same[2, 2, 3]


@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_prefers_normal_latents_and_has_a_gradient(name, model, normality, volumes):
    prior = build_prior(name, model, normality)
    normal = model.encode(volumes)
    shuffled = normal + 2 * torch.randn(normal.shape, generator=torch.Generator().manual_seed(3))
    assert (prior(normal, normal, None) < prior(shuffled, normal, None)).all()
    z = shuffled.requires_grad_(True)
    (gradient,) = torch.autograd.grad(prior(z, normal, None).sum(), z)
    assert gradient.isfinite().all()
    nearer = (z - 20.0 * gradient).detach()
    assert (prior(nearer, normal, None) < prior(z.detach(), normal, None)).all()


def test_the_code_prior_knows_which_codes_go_together(model, normality, volumes):
    """The same codes at other places are less likely, though each is a code."""
    codes = model.quantise(model.encode(volumes)).quantised
    moved = codes.flip(2)
    prior = build_prior("code-prior", model, normality)
    assert (prior(codes, codes, None) < prior(moved, codes, None)).all()
    nearest = build_prior("nearest-code", model, normality)
    torch.testing.assert_close(nearest(codes, codes, None), nearest(moved, codes, None))


def test_fitting_is_reproducible_and_kept_in_files(tmp_path, model, normality, volumes):
    again = Normality.fit(model, list(volumes))
    torch.save(normality.state(), tmp_path / "normality.pt")
    read = Normality.of_state(torch.load(tmp_path / "normality.pt", weights_only=True), model)
    latents = model.encode(volumes)
    for name in PRIORS:
        expected = build_prior(name, model, normality)(latents, latents, None)
        for other in (again, read):
            torch.testing.assert_close(build_prior(name, model, other)(latents, latents, None), expected)


def test_errors_say_what_is_missing(model, normality, volumes):
    with pytest.raises(UsageError, match="none, nearest-code, mixture, code-prior"):
        build_prior("normal", model, normality)
    with pytest.raises(UsageError, match="--normal"):
        build_prior("mixture", model, None)
    with pytest.raises(UsageError, match="too few"):
        Normality.fit(model, [])
    with pytest.raises(UsageError, match="train it again"):
        Normality.fit(model, [volumes[0] * float("nan")])
    other = build_vqvae_3d({"hidden_channels": [8, 8], "embedding_dim": 4, "num_embeddings": 32})
    with pytest.raises(UsageError, match="another model"):
        Normality.of_state(normality.state(), other)
