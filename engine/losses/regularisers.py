"""What keeps latents where later models expect them: penalties on the latent, per image.

Each takes `latents` and `initial`, (B, C, *spatial) fp32, and `step`, (B,) int32 iterations done, and returns (B,). All
are relative to σ, the standard deviation of the image's own initial latent, so one weight serves every decoder. A new one
is one function and one line in `REGULARISERS`; its keyword-only arguments can be set in an expression. A function of the
caller's own with the same three arguments is taken in the place of an expression.
"""

from collections.abc import Callable

import torch

from ..errors import UsageError
from .expression import CALLABLE, Term, check_per_image, describe, parse

Penalty = Callable[..., torch.Tensor]  # (latents, initial, step) -> (B,)


def latent_std(initial: torch.Tensor) -> torch.Tensor:
    """(B,): σ, the standard deviation over all of an image's values; at least 1e-3, for flat pictures."""
    return initial.flatten(1).std(1, correction=0).clamp_min(1e-3)


def l2_to_init(latents: torch.Tensor, initial: torch.Tensor, step: torch.Tensor | None = None) -> torch.Tensor:
    """Mean ((z − z₀) / σ)²: stays near the encoder's latent."""
    return (latents - initial).square().flatten(1).mean(1) / latent_std(initial).square()


def tv(
    latents: torch.Tensor, initial: torch.Tensor, step: torch.Tensor | None = None, *, eps: float = 0.01
) -> torch.Tensor:
    """Total variation: the mean |difference of neighbours| / σ, summed over the spatial axes (anisotropic).

    |d| is √(d² + ε²) − ε, with ε in units of σ: smooth at 0.
    """
    scaled = latents / latent_std(initial).view((-1,) + (1,) * (latents.ndim - 1))
    steps = [scaled.diff(dim=axis) for axis in range(2, latents.ndim) if latents.shape[axis] > 1]
    parts = [((step.square() + eps * eps).sqrt() - eps).flatten(1).mean(1) for step in steps]
    return torch.stack(parts).sum(0) if parts else torch.zeros_like(latent_std(initial))


def prior(latents: torch.Tensor, initial: torch.Tensor, step: torch.Tensor | None = None) -> torch.Tensor:
    """KL(N(μ, s²) ‖ N(μ₀, s₀²)) of each channel's mean and variance now and at the start, averaged over channels.

    Single values may move; the distribution that the encoder gives, which a diffusion model has learnt, stays.
    Variances count 10⁻⁴ σ² more, for channels that are constant.
    """
    floor = 1e-4 * latent_std(initial).square().unsqueeze(1)
    mean, start = latents.flatten(2).mean(2), initial.flatten(2).mean(2)  # (B, C)
    variance, before = (x.flatten(2).var(2, correction=0) + floor for x in (latents, initial))
    ratio = variance / before
    return 0.5 * (ratio - 1.0 - ratio.log() + (mean - start).square() / before).mean(1)


def spectrum(latents: torch.Tensor, initial: torch.Tensor, step: torch.Tensor | None = None) -> torch.Tensor:
    """½ (r − 1 − ln r), r being the power now over that at the start, averaged over channels and rings of equal frequency.

    It is half of the Itakura-Saito distance of each channel's radially averaged power spectrum from the initial one, for any
    number of spatial axes: values may move, but no band of frequencies gains or loses power. The means of channels do not
    count, since `prior` keeps them. Powers count 10⁻⁴ σ² more, for channels that are constant.
    """
    rings = _rings(latents.shape[2:], latents.device, latents.dtype)
    if rings.shape[1] == 0:  # one cell has no frequency but 0
        return torch.zeros_like(latent_std(initial))
    floor = 1e-4 * latent_std(initial).square().view(-1, 1, 1)
    now, before = (_power(x).flatten(2) @ rings + floor for x in (latents, initial))  # (B, C, rings)
    ratio = now / before
    return 0.5 * (ratio - 1.0 - ratio.log()).flatten(1).mean(1)


def _power(x: torch.Tensor) -> torch.Tensor:
    """Power of each Fourier coefficient of (B, C, *spatial), in the same shape; white noise has its variance everywhere."""
    transformed = torch.fft.fftn(x, dim=tuple(range(2, x.ndim)), norm="ortho")
    return transformed.real.square() + transformed.imag.square()


def _rings(shape: torch.Size, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """(cells, rings): the weights of means over rings as wide as the longest axis' lowest frequency; the corners beyond Nyquist
    are in the last, frequency 0 in none."""
    longest, squares = max(shape), torch.zeros((), device=device, dtype=dtype)
    for axis, cells in enumerate(shape):
        frequencies = torch.fft.fftfreq(cells, device=device, dtype=dtype)
        squares = squares + frequencies.square().view([-1 if i == axis else 1 for i in range(len(shape))])
    radius = (squares.sqrt() * longest).round().clamp_max(longest // 2).flatten()
    member = (radius[:, None] == torch.arange(1, longest // 2 + 1, device=device)).to(dtype)
    return member / member.sum(0)


REGULARISERS: dict[str, Penalty] = {"prior": prior, "tv": tv, "l2_to_init": l2_to_init, "spectrum": spectrum}


def parse_regularisers(expression: str) -> list[Term]:
    """Split "0.1*l2_to_init + 0.01*tv" into its terms; none of "". Raises `UsageError` for anything else."""
    if str(expression).endswith(CALLABLE):
        raise UsageError(
            f"regularisers: {expression!r} was a function of the caller's, which no file can hold; give the function itself"
        )
    return parse(expression, REGULARISERS, "regularisers") if expression else []


def check_penalty(penalty: str | Penalty, latents: torch.Tensor) -> None:
    """Before any work: try a caller's own function on `latents` (B, C, *spatial). Raises `UsageError` unless it returns one
    value per image that has a gradient with respect to the latents."""
    if isinstance(penalty, str):
        return
    with torch.enable_grad():
        step = torch.zeros(len(latents), dtype=torch.int32, device=latents.device)
        found = penalty(latents.detach().clone().requires_grad_(True), latents, step)
    check_per_image(found, len(latents), f"regularisers: {describe(penalty).removesuffix(CALLABLE)}", "the latents")


def build_penalty(penalty: str | Penalty) -> Penalty | None:
    """The function (latents, initial, step) -> (B,) of an expression, or the caller's own; None of ""."""
    if not isinstance(penalty, str):
        return penalty
    terms = [(term.weight, REGULARISERS[term.name], term.parameters) for term in parse_regularisers(penalty)]
    if not terms:
        return None

    def total(latents: torch.Tensor, initial: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return torch.stack([weight * function(latents, initial, step, **own) for weight, function, own in terms]).sum(0)

    return total
