"""The loop's operations in plain torch. Correct first: the definition of what any faster kernel must compute."""

import torch


def fused_adam_reference(
    latents: torch.Tensor,
    gradient: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    learning_rate: torch.Tensor,
    active: torch.Tensor,
    step: int,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """One Adam step for a batch of independent latents, in place (Kingma & Ba, 2015, algorithm 1).

    latents, gradient, exp_avg, exp_avg_sq: (B, ...) fp32; learning_rate: (B,) in the latent's unit; active: (B,) bool,
    an image that is not active keeps its latent and moments; step: from 1. Mutates latents and both moments.
    """
    shape = (-1,) + (1,) * (latents.ndim - 1)
    keep = active.view(shape)
    new_avg = torch.lerp(gradient, exp_avg, betas[0])
    new_avg_sq = torch.lerp(gradient.square(), exp_avg_sq, betas[1])
    denominator = (new_avg_sq / (1.0 - betas[1] ** step)).sqrt_().add_(eps)
    update = learning_rate.view(shape) * (new_avg / (1.0 - betas[0] ** step)) / denominator
    # where, not a product with the flag: a stopped image's gradient may be NaN, and 0 · NaN is NaN
    latents.copy_(torch.where(keep, latents - update, latents))
    exp_avg.copy_(torch.where(keep, new_avg, exp_avg))
    exp_avg_sq.copy_(torch.where(keep, new_avg_sq, exp_avg_sq))
