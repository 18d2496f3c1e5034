"""Tuning of encoders: it finds better latents, goes on where it was stopped, and measures what it says."""

import dataclasses

import pytest
import torch
from helpers import small_kl
from relatent.engine.autoencoders.loading import load_autoencoder
from relatent.engine.errors import UsageError
from relatent.engine.tuning.settings import TuningSettings
from relatent.engine.tuning.training import held_out_gain, tune

SETTINGS = TuningSettings(steps=30, batch_size=2, crop=32, learning_rate=3e-3, average=0.9)


class FewCrops:
    """Three small pictures."""

    def __init__(self, targets, stop_at=None):
        self.targets, self.stop_at, self.calls = targets, stop_at, 0

    def describe(self):
        return {"pictures": len(self.targets)}

    def sample(self, count, side, generator):
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        return self.targets[torch.randint(len(self.targets), (count,), generator=generator)]


def test_tuned_latents_decode_closer(small_vae, targets):
    before = [parameter.clone() for parameter in small_vae.encoder.parameters()]
    module = tune(small_vae, FewCrops(targets), SETTINGS)
    assert held_out_gain(small_vae, module, targets.split(1)) > 0.1
    assert not module.training
    assert all(torch.equal(a, b) for a, b in zip(small_vae.encoder.parameters(), before, strict=True))
    assert not any(parameter.requires_grad for parameter in small_vae.encoder.parameters())


def test_a_stopped_tuning_ends_as_an_uninterrupted_one(small_vae, targets, tmp_path, monkeypatch, one_thread):
    monkeypatch.setattr("relatent.engine.tuning.training.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    settings, path = dataclasses.replace(SETTINGS, steps=8), tmp_path / "own.checkpoint"
    whole = tune(small_vae, FewCrops(targets), settings)
    with pytest.raises(KeyboardInterrupt):
        tune(small_vae, FewCrops(targets, stop_at=5), settings, path)
    lines = []
    crops = FewCrops(targets)
    again = tune(small_vae, crops, settings, path, lines.append)
    assert lines[0] == "going on after step 5 of 8"
    assert crops.calls == 3
    for a, b in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(UsageError, match="belongs to a tuning with other settings"):
        tune(small_vae, FewCrops(targets), dataclasses.replace(settings, seed=1), path)


def test_settings_and_autoencoders_that_do_not_fit(small_vae, targets):
    for wrong in ({"crop": 0}, {"steps": 0}, {"learning_rate": 0.0}, {"average": 1.0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            TuningSettings(**wrong)
    with pytest.raises(UsageError, match="size 30 does not fit"):
        tune(small_vae, FewCrops(targets), dataclasses.replace(SETTINGS, crop=30))
    only_decoder = load_autoencoder(small_kl().decoder, latent_channels=4, downscale_factor=8)
    with pytest.raises(UsageError, match="cannot be tuned"):
        tune(only_decoder, FewCrops(targets), SETTINGS)
