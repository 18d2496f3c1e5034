"""Samples by DDIM (Song et al. 2021, η = 0) with classifier-free guidance (Ho & Salimans 2021)."""

from collections.abc import Callable, Sequence

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from ....engine.errors import UsageError
from .latent_scaling import LatentScaling
from .network import NOISE_SCHEDULE, ConditionalUNet, predicted_noise

# noisy scaled latents (B, C, h, w), the timestep, users (B,) -> log-probabilities of the users (B,), differentiable
Classifier = Callable[[Tensor, int, Tensor], Tensor]


def guided_noise(network: ConditionalUNet, noisy: Tensor, timestep: int, users: Tensor, scale: float) -> Tensor:
    """ε(null) + scale · (ε(user) − ε(null)), shaped as noisy. At scale 1 it is ε(user), in half of the time.

    noisy: (B, C, h, w), scaled. users: (B,) int64, from 0 on.
    """
    steps = torch.full_like(users, timestep)
    dropped = torch.zeros_like(users, dtype=torch.bool)
    if scale == 1.0:
        predicted = network(noisy, steps, users, dropped)
    else:
        both = network(noisy.repeat(2, 1, 1, 1), steps.repeat(2), users.repeat(2), torch.cat([dropped, ~dropped]))
        of_user, of_any = both.chunk(2)
        predicted = of_any + scale * (of_user - of_any)
    return predicted_noise(network.prediction_type, predicted, noisy, timestep)


@torch.no_grad()
def sample_latents(
    network: ConditionalUNet,
    scaling: LatentScaling,
    users: Tensor,
    seeds: Sequence[int],
    guidance_scale: float = 1.5,
    num_inference_steps: int = 50,
    classifier: Classifier | None = None,
    classifier_scale: float = 1.0,
) -> Tensor:
    """Unscaled latents (B, C, h, w) fp32, on the network's device. The network is left in evaluation mode.

    users: (B,) int64, from 0 on. seeds: one per sample, of the noise it starts from: a sample does not depend on the others of
    its batch, beyond rounding. classifier: adds classifier_scale times the gradient of its log-probability
    (Dhariwal & Nichol 2021, algorithm 2). Raises `UsageError` for a user or a number of steps that does not exist.
    """
    if not 1 <= num_inference_steps <= NOISE_SCHEDULE["num_train_timesteps"]:
        raise UsageError(f"num_inference_steps: expected 1 to 1000, found {num_inference_steps}")
    known = network.condition.num_users
    if not 0 <= int(users.min()) <= int(users.max()) < known:
        raise UsageError(f"users: expected 0 to {known - 1}, found {users.tolist()}")
    network.eval()
    device = next(network.parameters()).device
    noises = [torch.randn(network.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    noisy, users = torch.stack(noises).to(device), users.to(device)
    # trailing: the first step is of pure noise, as the noise that is put in
    scheduler = DDIMScheduler(**NOISE_SCHEDULE, set_alpha_to_one=True, timestep_spacing="trailing")
    scheduler.set_timesteps(num_inference_steps)
    for timestep in scheduler.timesteps.tolist():
        noise = guided_noise(network, noisy, timestep, users, guidance_scale).float()
        if classifier is not None:
            remaining = (1.0 - scheduler.alphas_cumprod[timestep]).sqrt()
            noise = noise - classifier_scale * remaining.item() * _gradient(classifier, noisy, timestep, users)
        noisy = scheduler.step(noise, timestep, noisy).prev_sample
    return scaling.unscale(noisy)


@torch.enable_grad()
def _gradient(classifier: Classifier, noisy: Tensor, timestep: int, users: Tensor) -> Tensor:
    at = noisy.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(at, timestep, users).sum(), at)
    return gradient
