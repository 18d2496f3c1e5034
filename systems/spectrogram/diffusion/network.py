"""The denoising network: diffusers' UNet2DConditionModel and the condition, and the noise schedule they share."""

import math
from functools import cache
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn

from ....engine.errors import UsageError
from .condition import UserCondition
from .settings import DiffusionSettings

NOISE_STEPS = 1000
# Stable Diffusion's schedule
NOISE_SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": NOISE_STEPS,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
}


class ConditionalUNet(nn.Module):
    """Predicts the noise in scaled latents of `latent_shape`, (C, h, w), given the step of the noise and the user.

    prediction_type: what it returns, as in diffusers: epsilon, the noise, or v_prediction.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        condition: UserCondition,
        latent_shape: tuple[int, int, int],
        prediction_type: str = "epsilon",
    ) -> None:
        super().__init__()
        self.unet, self.condition, self.latent_shape = unet, condition, latent_shape
        self.prediction_type = prediction_type

    def forward(self, noisy: Tensor, timesteps: Tensor, users: Tensor, dropped: Tensor) -> Tensor:
        """The prediction, shaped as noisy.

        noisy: (B, C, h, w) fp32. timesteps: (B,) int64 from 0 to 999. users, dropped: as `UserCondition` takes them.
        """
        return self.unet(noisy, timesteps, self.condition(users, dropped)).sample


def build_network(settings: DiffusionSettings, shape: tuple[int, int, int], seed: int | None = None) -> ConditionalUNet:
    """A network for latents of that shape (C, h, w), in training mode, initialised from `seed` (default: the settings').

    Raises `UsageError` for sides that the levels cannot halve.
    """
    channels, height, width = shape
    factor = 2 ** (len(settings.block_out_channels) - 1)
    if height % factor or width % factor:
        raise UsageError(
            f"latents of {height}×{width} cannot be halved {len(settings.block_out_channels) - 1} times; "
            f"give a resolution with latents of a multiple of {factor}, or a recipe with fewer levels, such as small"
        )
    down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in settings.attention]
    up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(settings.attention)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed if seed is None else seed)
        unet = UNet2DConditionModel(
            sample_size=height if height == width else (height, width),
            in_channels=channels,
            out_channels=channels,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            block_out_channels=settings.block_out_channels,
            layers_per_block=settings.layers_per_block,
            attention_head_dim=settings.heads,  # diffusers reads it as the number of heads
            cross_attention_dim=settings.cross_attention_dim,
            norm_num_groups=math.gcd(32, *settings.block_out_channels),
        )
        condition = UserCondition(settings.num_users, settings.cross_attention_dim)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return ConditionalUNet(unet, condition, shape, settings.prediction_type).train()


def noise_scheduler() -> DDPMScheduler:
    """The schedule of the training: 1000 steps, scaled-linear β from .00085 to .012."""
    return DDPMScheduler(**NOISE_SCHEDULE)


def prediction_target(
    scheduler: DDPMScheduler, prediction_type: str, scaled: Tensor, noise: Tensor, timesteps: Tensor
) -> Tensor:
    """What a network of that `prediction_type` should return for scaled latents with that noise, all (B, C, h, w), at timesteps (B,) int64."""
    if prediction_type == "epsilon":
        return noise
    return scheduler.get_velocity(scaled, noise, timesteps)  # type: ignore[arg-type]  # it takes any integers


def predicted_noise(prediction_type: str, predicted: Tensor, noisy: Tensor, timestep: int) -> Tensor:
    """The noise ε that a prediction for noisy latents stands for, both (B, C, h, w): the inverse of `prediction_target`."""
    if prediction_type == "epsilon":
        return predicted
    kept = alphas_cumprod()[timestep]
    return kept**0.5 * predicted + (1.0 - kept) ** 0.5 * noisy  # ε of v = √ᾱ ε − √(1 − ᾱ) z


@cache  # it is asked at every step of a sample
def alphas_cumprod() -> tuple[float, ...]:
    """ᾱ of each of the 1000 steps: the share of a noisy latent's variance that is the latent's."""
    return tuple(noise_scheduler().alphas_cumprod.tolist())
