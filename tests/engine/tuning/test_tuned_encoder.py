"""Files of tuned encoders, and iterations that start at their latents."""

import copy
import dataclasses

import pytest
import torch
from relatent.engine.autoencoders.loading import load_autoencoder
from relatent.engine.errors import UsageError
from relatent.engine.optimization.config import OptimizationConfig
from relatent.engine.optimization.optimizer import LatentOptimizer
from relatent.engine.optimization.warm_start import warm_start
from relatent.engine.tuning.tuned_encoder import (
    kept_path,
    read_tuned_encoder,
    resolve_start,
    tuned_autoencoder,
    write_tuned_encoder,
)
from safetensors.torch import load_file


def changed(vae, by=0.05):
    """A copy of the encoder whose last bias is moved."""
    module = copy.deepcopy(vae.encoder)
    list(module.parameters())[-1].data.add_(by)
    return module


@pytest.fixture
def kept(small_vae):
    """A tuned encoder in the cache of the tests, removed again."""
    path = kept_path(small_vae)
    digest = write_tuned_encoder(path, small_vae, changed(small_vae), {"steps": 1})
    yield path, digest
    path.unlink()


def test_a_file_holds_what_changed_and_gives_the_same_encoder(small_vae, targets, tmp_path):
    module, path = changed(small_vae), tmp_path / "own.safetensors"
    write_tuned_encoder(path, small_vae, module, {"steps": 3})
    assert len(load_file(path)) == 1
    found, facts = read_tuned_encoder(path, small_vae)
    assert facts == {"steps": 3}
    assert torch.equal(small_vae.with_encoder(found).encode(targets), small_vae.with_encoder(module).encode(targets))
    assert not torch.equal(small_vae.with_encoder(found).encode(targets), small_vae.encode(targets))
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_a_file_of_something_else_is_refused(small_vae, tmp_path):
    path = tmp_path / "own.safetensors"
    with pytest.raises(UsageError, match="there is no tuned encoder"):
        read_tuned_encoder(path, small_vae)
    write_tuned_encoder(path, small_vae, changed(small_vae), {})
    with pytest.raises(UsageError, match="with another decoder than that of 'tiny'"):
        read_tuned_encoder(path, load_autoencoder("tiny", device="cpu"))
    with pytest.raises(UsageError, match="with another encoder"):
        read_tuned_encoder(path, small_vae.with_encoder(changed(small_vae, 1.0)))
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(UsageError, match="is damaged"):
        read_tuned_encoder(path, small_vae)
    with pytest.raises(UsageError, match="cannot be tuned"):
        kept_path(load_autoencoder(small_vae.decoder, latent_channels=4, downscale_factor=8))


def test_a_start_is_resolved_to_a_digest_that_must_stay(small_vae, kept, tmp_path):
    path, digest = kept
    assert resolve_start(small_vae, "encoder") == "encoder"
    assert resolve_start(small_vae, "tuned") == f"tuned@{digest}"
    assert resolve_start(small_vae, str(path)) == f"{path.resolve()}@{digest}"
    assert resolve_start(small_vae, f"tuned@{digest}") == f"tuned@{digest}"
    other = write_tuned_encoder(path, small_vae, changed(small_vae, 0.2), {})
    assert other != digest
    assert resolve_start(small_vae, "tuned") == f"tuned@{other}"
    with pytest.raises(UsageError, match="is not the one of"):
        tuned_autoencoder(small_vae, f"tuned@{digest}")


def test_without_a_kept_one_the_remedy_is_said(small_vae, targets):
    with pytest.raises(UsageError, match="no tuned encoder is kept for the decoder of"):
        LatentOptimizer(OptimizationConfig(start="tuned")).optimize_batch(small_vae, small_vae.encode(targets), targets)
    with pytest.raises(UsageError, match="start: expected"):
        OptimizationConfig(start="")


@pytest.mark.parametrize("steps", [0, 1])
def test_iterations_start_there(small_vae, targets, kept, steps):
    start, tuned = small_vae.encode(targets), small_vae.with_encoder(changed(small_vae))
    expected = tuned.encode(targets)
    if steps:
        expected = expected - 0.3 * (small_vae.encode(small_vae.decode(expected)) - start)
    config = OptimizationConfig(start="tuned", warm_start=steps, warm_start_rate=0.3, precision="fp32")
    found = warm_start(small_vae, config, start, targets)
    torch.testing.assert_close(found.latents, expected, rtol=1e-4, atol=1e-4)
    assert found.error is None


def test_the_encoders_latents_stay_the_yardstick_and_the_floor(small_vae, targets):
    """Targets are what the given latents decode to: a tuned encoder that is far off cannot win, and gains are counted from
    the given latents."""
    start, path = small_vae.encode(targets), kept_path(small_vae)
    targets = small_vae.decode(start).clamp(-1, 1).detach()
    write_tuned_encoder(path, small_vae, changed(small_vae, 3.0), {})
    try:
        config = OptimizationConfig(start="tuned", iterations=1, warm_start=0, relative_learning_rate=1e-6)
        for i, found in enumerate(LatentOptimizer(config).optimize_batch(small_vae, start, targets)):
            assert found.losses[0] > 1e-3  # it did start elsewhere
            torch.testing.assert_close(found.initial_latents, start[i : i + 1])
            torch.testing.assert_close(found.optimized_latents, start[i : i + 1])
            assert found.metrics["psnr_improvement"] == 0.0
        goal = dataclasses.replace(config, target_gain=0.01, precision="fp32")
        torch.testing.assert_close(
            warm_start(small_vae, goal, start, targets).error, torch.zeros(3), rtol=0.0, atol=1e-5
        )
    finally:
        path.unlink()
