"""Sampling: guidance, seeds, and what a classifier adds."""

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.diffusion.latent_scaling import LatentScaling
from relatent.systems.spectrogram.diffusion.network import build_network, noise_scheduler, prediction_target
from relatent.systems.spectrogram.diffusion.sampler import guided_noise, sample_latents
from relatent.systems.spectrogram.diffusion.settings import PREDICTIONS
from tiny_diffusion import tiny_settings

SCALING = LatentScaling((1.0, -2.0), 3.0)


@pytest.fixture(scope="module")
def network():
    model = build_network(tiny_settings(num_users=3), (2, 4, 4))
    with torch.no_grad():  # at its start the condition hardly matters
        model.condition.embedding.weight.mul_(20.0)
        model.condition.null_token.mul_(200.0)
    return model.eval()


@torch.no_grad()
def test_guidance(network):
    users = torch.tensor([0, 1, 2])
    noisy, steps = torch.randn(3, 2, 4, 4), torch.full((3,), 500)
    dropped = torch.zeros(3, dtype=torch.bool)
    of_user, of_any = network(noisy, steps, users, dropped), network(noisy, steps, users, ~dropped)
    of_user_0 = network(noisy, steps, torch.zeros_like(users), dropped)
    assert torch.equal(guided_noise(network, noisy, 500, users, 1.0), of_user)
    assert torch.allclose(guided_noise(network, noisy, 500, users, 0.0), of_any, atol=1e-5)
    found = guided_noise(network, noisy, 500, users, 3.0)
    assert torch.allclose(found, of_any + 3.0 * (of_user - of_any), atol=1e-5)
    # the original's "unconditional" prediction was that of user 0
    assert not torch.allclose(found, of_user_0 + 3.0 * (of_user - of_user_0), atol=1e-2)
    assert not torch.allclose(found[0], of_user[0], atol=1e-2)  # where user 0 was never guided at all


def test_a_sample_does_not_depend_on_its_batch(network):
    users, seeds = torch.tensor([0, 1, 2, 0]), [5, 6, 7, 8]
    together = sample_latents(network, SCALING, users, seeds, 1.5, 5)
    assert together.shape == (4, 2, 4, 4)
    for index in range(4):
        alone = sample_latents(network, SCALING, users[index : index + 1], seeds[index : index + 1], 1.5, 5)
        assert torch.allclose(alone[0], together[index], atol=1e-3 * together.abs().max())
    assert not torch.allclose(together[0], together[3], atol=0.1)


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_a_perfect_prediction_gives_the_latent_back(prediction_type):
    """Where the noise is known, DDIM ends at the latent, in the decoder's scale."""
    target = torch.randn(2, 4, 4)
    network = build_network(tiny_settings(num_users=3, prediction_type=prediction_type), (2, 4, 4))
    scheduler = noise_scheduler()

    def predict(noisy, timesteps, users, dropped):
        remaining = scheduler.alphas_cumprod[timesteps][:, None, None, None]
        noise = (noisy - remaining.sqrt() * target) / (1.0 - remaining).sqrt()
        return prediction_target(scheduler, prediction_type, target.expand_as(noisy), noise, timesteps)

    network.forward = predict
    found = sample_latents(network, SCALING, torch.tensor([1]), [0], 1.0, 50)
    assert torch.allclose(found[0], SCALING.unscale(target[None])[0], atol=1e-3)


def test_a_classifier_leads_towards_what_it_prefers(network):
    users = torch.tensor([0, 1])

    def classifier(noisy, timestep, users):
        assert isinstance(timestep, int)
        return (noisy.mean((1, 2, 3)) * (2.0 * users - 1.0)) * noisy[0].numel()

    plain, led = (
        SCALING.scale(sample_latents(network, SCALING, users, [1, 2], 1.0, 10, classifier, scale)).mean((1, 2, 3))
        for scale in (0.0, 0.5)
    )
    assert led[0] < plain[0] - 0.1
    assert led[1] > plain[1] + 0.1


@pytest.mark.parametrize(("users", "steps"), [([3], 5), ([-1], 5), ([0], 0), ([0], 1001)])
def test_users_and_steps_that_do_not_exist(network, users, steps):
    with pytest.raises(UsageError, match="expected"):
        sample_latents(network, SCALING, torch.tensor(users), [0], 1.5, steps)
