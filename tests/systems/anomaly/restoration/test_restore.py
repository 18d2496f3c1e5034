"""Restoration by the engine's loop: what it minimises, refilled slots, precision."""

import dataclasses

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.restoration.autoencoder import VolumeAutoencoder
from relatent.systems.anomaly.restoration.priors.registry import build_prior
from relatent.systems.anomaly.restoration.restore import restore
from relatent.systems.anomaly.restoration.settings import PRESETS, RestorationSettings, restoration_config

EXACT = restoration_config("balanced", iterations=12, precision="fp32", convergence_threshold=0.0)


def total(model, prior, settings, x, z):
    """Data term and penalty, from their definitions."""
    data = (model.decode(z) - x).abs().mean()
    return (data + settings.weight * prior(z, z, None)[0]).item() if prior else data.item()


@pytest.mark.parametrize("name", ["none", "nearest-code", "mixture", "code-prior"])
def test_the_sum_of_data_term_and_prior_falls(name, model, normality, volumes):
    prior = build_prior(name, model, normality)
    settings = RestorationSettings(name, 0.05, optimization=EXACT)
    results = restore(VolumeAutoencoder(model), list(volumes[:2]), settings, prior)
    for x, result in zip(volumes, results, strict=False):
        start, end = (
            total(model, prior, settings, x[None], z) for z in (result.initial_latents, result.optimized_latents)
        )
        torch.testing.assert_close(result.initial_latents, model.encode(x[None]))
        assert end < start
        assert result.losses[0] == pytest.approx(start, rel=1e-4)
        torch.testing.assert_close(result.optimized_image, model.decode(result.optimized_latents), atol=1e-5, rtol=1e-4)


def test_a_larger_weight_stays_nearer_to_the_prior(model, normality, volumes):
    prior, autoencoder = build_prior("nearest-code", model, normality), VolumeAutoencoder(model)
    values = []
    for weight in (0.0, 0.1, 10.0):
        (result,) = restore(
            autoencoder, [volumes[0]], RestorationSettings("nearest-code", weight, optimization=EXACT), prior
        )
        values.append(prior(result.optimized_latents, result.initial_latents).item())
    assert values[0] > values[1] > values[2]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_slots_are_refilled_and_each_volume_is_on_its_own(precision, model, normality, volumes):
    """Five volumes in two slots give what each gives alone."""
    prior, autoencoder = build_prior("mixture", model, normality), VolumeAutoencoder(model)
    config = dataclasses.replace(EXACT, precision=precision, convergence_threshold=1e-2, convergence_window=3)
    settings = RestorationSettings("mixture", 0.01, batch_size=2, optimization=config)
    together = restore(autoencoder, list(volumes[:5]), settings, prior)
    alone = [restore(autoencoder, [x], dataclasses.replace(settings, batch_size=1), prior)[0] for x in volumes[:5]]
    for one, other in zip(together, alone, strict=True):
        assert len(one.losses) == len(other.losses)
        torch.testing.assert_close(one.optimized_image, other.optimized_image, atol=2e-3, rtol=0)
        assert one.metrics["loss_reduction"] > 0


def test_settings_that_do_not_fit_volumes_are_refused():
    assert set(PRESETS) == {"fast", "balanced", "best"}
    with pytest.raises(UsageError, match="fast, balanced, best"):
        restoration_config("quick")
    with pytest.raises(UsageError, match="weight"):
        RestorationSettings(weight=-1.0)
    with pytest.raises(UsageError, match="whitened"):
        RestorationSettings(optimization=dataclasses.replace(EXACT, precondition=True))
