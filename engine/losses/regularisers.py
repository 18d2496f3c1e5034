"""What keeps latents where later models expect them: penalties on the latent, per image.

Each takes `latents` and `initial`, (B, C, *spatial) fp32, and returns (B,). All are relative to σ, the spread of the
image's own initial latent, so one weight serves every decoder. A new one is one function and one line in
`REGULARISERS`; its keyword-only arguments can be set in an expression.
"""

from collections.abc import Callable

import torch

from .expression import Term, parse

Regulariser = Callable[..., torch.Tensor]  # (latents, initial) -> (B,)


def latent_std(initial: torch.Tensor) -> torch.Tensor:
    """(B,): σ, the standard deviation over all of an image's values; at least 1e-3, for flat pictures."""
    return initial.flatten(1).std(1, correction=0).clamp_min(1e-3)


def l2_to_init(latents: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """Mean ((z − z₀) / σ)²: stays near the encoder's latent."""
    return (latents - initial).square().flatten(1).mean(1) / latent_std(initial).square()


def tv(latents: torch.Tensor, initial: torch.Tensor, *, eps: float = 0.01) -> torch.Tensor:
    """Total variation: the mean |difference of neighbours| / σ, summed over the spatial axes (anisotropic).

    |d| is √(d² + ε²) − ε, with ε in units of σ: smooth at 0.
    """
    scaled = latents / latent_std(initial).view((-1,) + (1,) * (latents.ndim - 1))
    steps = [scaled.diff(dim=axis) for axis in range(2, latents.ndim) if latents.shape[axis] > 1]
    parts = [((step.square() + eps * eps).sqrt() - eps).flatten(1).mean(1) for step in steps]
    return torch.stack(parts).sum(0) if parts else torch.zeros_like(latent_std(initial))


def prior(latents: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """KL(N(μ, s²) ‖ N(μ₀, s₀²)) of each channel's mean and variance now and at the start, averaged over channels.

    Single values may move; the distribution that the encoder gives, which a diffusion model has learnt, stays.
    Variances count 10⁻⁴ σ² more, for channels that are constant.
    """
    floor = 1e-4 * latent_std(initial).square().unsqueeze(1)
    mean, start = latents.flatten(2).mean(2), initial.flatten(2).mean(2)  # (B, C)
    variance, before = (x.flatten(2).var(2, correction=0) + floor for x in (latents, initial))
    ratio = variance / before
    return 0.5 * (ratio - 1.0 - ratio.log() + (mean - start).square() / before).mean(1)


REGULARISERS: dict[str, Regulariser] = {"prior": prior, "tv": tv, "l2_to_init": l2_to_init}


def parse_regularisers(expression: str) -> list[Term]:
    """Split "0.1*l2_to_init + 0.01*tv" into its terms; none of "". Raises `UsageError` for anything else."""
    return parse(expression, REGULARISERS, "regularisers") if expression else []


def build_penalty(expression: str) -> Regulariser | None:
    """The function (latents, initial) -> (B,) of an expression; None of ""."""
    terms = [(term.weight, REGULARISERS[term.name], term.parameters) for term in parse_regularisers(expression)]
    if not terms:
        return None

    def penalty(latents: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
        return torch.stack([weight * function(latents, initial, **own) for weight, function, own in terms]).sum(0)

    return penalty
