"""Search methods that the engine is compared with: `METHODS`, one entry each.

A method takes a counter and its settings, decodes and encodes only through the counter, starts at `counter.start`,
stays within the counter's budget, and returns its last iterate (1, C, h, w). Learning rates are in σ, the standard
deviation of the start. In the end the best iterate that it decoded is measured. Methods that use the encoder alone are
in `encoder_methods.py`.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from ...engine.autoencoders.autoencoder import Autoencoder
from ..peers import ORIGINAL, original_loop
from .encoder_methods import (
    encoder_adam,
    encoder_anderson,
    encoder_iteration,
    encoder_line_search,
    encoder_nesterov,
    encoder_steps,
)
from .evaluation_counter import Costs, EvaluationCounter, Run
from .learned import Filter, Learned


@dataclass(frozen=True)
class Method:
    """A search, its settings, and the grid of settings that tuning tries."""

    search: Callable[..., torch.Tensor]  # (counter, **settings) -> latents
    budget: float  # In gradient iterations.
    settings: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, Sequence[Any]] = field(default_factory=dict)


def run_method(autoencoder: Autoencoder, costs: Costs, learned: Learned, method: Method, target: torch.Tensor) -> Run:
    """Run a method on one photograph."""
    counter = EvaluationCounter(autoencoder, target, costs, method.budget, learned)
    return counter.finish(method.search(counter, **method.settings))


def original(counter: EvaluationCounter, rate: float) -> torch.Tensor:
    """Run Generative Latent Optimization's loop; see `peers`."""
    iterations = counter.iterations()
    return original_loop(counter.decode, counter.start, counter.target, rate * counter.sigma, iterations)


def adam(
    counter: EvaluationCounter, rate: float, betas: tuple[float, float], warm: int = 0, cosine: bool = False,
    filtered: Callable[[EvaluationCounter], Filter] | None = None,
) -> torch.Tensor:  # fmt: skip
    """Run Adam (Kingma & Ba, 2015) after `warm` encoder steps. With a filter P it optimises u, where z = z₀ + P·u."""
    start = encoder_steps(counter, counter.start, warm)
    change = torch.zeros_like(start, requires_grad=True)
    apply = filtered(counter) if filtered is not None else torch.Tensor.clone
    optimizer = torch.optim.Adam([change], lr=rate * counter.sigma, betas=betas, eps=1e-12)
    iterations = counter.iterations()
    for iteration in range(iterations):
        gradient, _ = counter.gradient(start + apply(change.detach()))
        change.grad = apply(gradient)
        if cosine:
            progress = iteration / iterations
            optimizer.param_groups[0]["lr"] = 0.5 * rate * counter.sigma * (1.0 + math.cos(math.pi * progress))
        optimizer.step()
    return start + apply(change.detach())


def channel_adam(counter: EvaluationCounter, rate: float, betas: tuple[float, float]) -> torch.Tensor:
    """Run Adam with a learning rate per channel, from the gradient's second moments over other photographs."""
    return adam(counter, rate, betas, filtered=lambda counter: lambda latents: latents * counter.learned.channel_rates)


def whitened_adam(
    counter: EvaluationCounter, rate: float, betas: tuple[float, float], damping: float, warm: int = 0
) -> torch.Tensor:
    """Run Adam in whitened coordinates, in which the decoder's mean curvature over other photographs is constant."""
    return adam(counter, rate, betas, warm, filtered=lambda counter: counter.learned.whitener(damping))


class _BudgetSpentError(Exception):
    """The budget is used up in the middle of a line search."""


def lbfgs(counter: EvaluationCounter, first: float, history: int = 10) -> torch.Tensor:
    """Run torch's L-BFGS with a strong Wolfe line search (Nocedal & Wright, algorithms 7.5 and 3.5).

    first: mean length of the first step tried, in σ. In torch its absolute values sum to 1, so the variables are
    scaled.
    """
    unit = first * counter.sigma * counter.start.numel()
    scaled = (counter.start / unit).requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [scaled], max_iter=10**6, max_eval=10**6, tolerance_grad=0.0, tolerance_change=0.0, history_size=history,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        if not counter.affords():
            raise _BudgetSpentError
        optimizer.zero_grad()
        loss = (counter.decode(scaled * unit) - counter.target).square().sum()
        loss.backward()
        return loss

    with contextlib.suppress(_BudgetSpentError):
        optimizer.step(closure)
    return counter.best


def subspace(counter: EvaluationCounter, rate: float) -> torch.Tensor:
    """Take steps in the plane spanned by the encoder's correction and the gradient.

    Both directions are decoded, and their coefficients are the least-squares fit of the resulting changes to the
    residual.
    """
    latents = counter.start
    while counter.affords(1.0 + counter.costs.encode + 2 * counter.costs.decode):
        gradient, picture = counter.gradient(latents)
        correction = counter.encode(picture) - counter.start
        steps = [-correction, -gradient * (rate * counter.sigma / gradient.square().mean().sqrt())]
        with torch.no_grad():
            changes = torch.stack([(counter.decode(latents + step) - picture).flatten() for step in steps], 1)
        coefficients = torch.linalg.lstsq(changes, (counter.target - picture).flatten().unsqueeze(1)).solution.flatten()
        latents = latents + coefficients[0] * steps[0] + coefficients[1] * steps[1]
    return latents


@torch.no_grad()
def surrogate(counter: EvaluationCounter, rate: float, inner: int, damping: float) -> torch.Tensor:
    """Run defect correction with a linear surrogate S: z ← z + rate · argmin over d of ‖S·d + D(z) − x‖² + damping‖d‖².

    The minimum is approximated by `inner` steps of conjugate gradients; the damping is relative. There is no backward
    pass through the decoder.
    """
    weight = counter.learned.surrogate
    cell = counter.target.shape[-1] // counter.start.shape[-1]
    flops = 2.0 * weight.numel() * counter.start[0, 0].numel()  # Operations of S, and of its transpose.

    def transposed(picture: torch.Tensor) -> torch.Tensor:
        counter.spend(flops)
        return F.conv_transpose2d(F.pixel_unshuffle(picture, cell), weight, padding=1)

    ridge = damping * weight.square().sum().item() / weight.shape[1]  # Relative to the mean of the diagonal of SᵀS.

    def curvature(latents: torch.Tensor) -> torch.Tensor:
        counter.spend(flops)
        return transposed(F.pixel_shuffle(F.conv2d(latents, weight, padding=1), cell)) + ridge * latents

    latents = counter.start
    while counter.affords(counter.costs.decode + 2 * (inner + 1) * flops / counter.costs.iteration_flops):
        residual = transposed(counter.target - counter.decode(latents))
        step, direction, length = torch.zeros_like(latents), residual, residual.square().sum()
        for _ in range(inner):
            product = curvature(direction)
            size = length / (direction * product).sum()
            step, residual = step + size * direction, residual - size * product
            length, before = residual.square().sum(), length
            direction = residual + (length / before) * direction
        latents = latents + rate * step
    return latents


def gradient_anderson(
    counter: EvaluationCounter, rate: float, damping: float, memory: int, window: int | None
) -> torch.Tensor:
    """Apply Anderson acceleration to preconditioned gradient steps, z ← z − rate · (JᵀJ)⁻¹∇ with the mean curvature.

    Past differences are combined so that the resulting changes of the image are closest to the residual: one
    combination for the whole image or, with a window, one for each latent cell, fitted to the cells within that
    distance.
    """
    inverse = counter.learned.inverse(damping)
    latents, past = counter.start, None
    history: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []  # Differences of latents, gradients and images.
    while counter.affords():
        gradient, picture = counter.gradient(latents)
        now = (latents, gradient, picture)
        if past is not None:
            history.append((now[0] - past[0], now[1] - past[1], now[2] - past[2]))
        past, history = now, history[-memory:]
        if history:
            coefficients = _combination(picture - counter.target, [each[2] for each in history], latents, window)
            latents = latents + sum(c * each[0] for c, each in zip(coefficients, history, strict=True))
            gradient = gradient + sum(c * each[1] for c, each in zip(coefficients, history, strict=True))
        latents = latents - rate * inverse(gradient)
    return latents


def _combination(
    residual: torch.Tensor, changes: list[torch.Tensor], latents: torch.Tensor, window: int | None
) -> torch.Tensor:
    """Return the coefficients, (K, 1, h, w), with which the (1, 3, H, W) changes are closest to −residual around each
    cell.
    """
    height, width = latents.shape[2:]

    def inner(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        cells = F.adaptive_avg_pool2d((a * b).sum(1, keepdim=True), (height, width))
        if window is None:
            return cells.mean().expand(height, width)
        return F.avg_pool2d(F.pad(cells, (window,) * 4, mode="replicate"), 2 * window + 1, 1)[0, 0]

    scales = [inner(change, change).mean().clamp_min(1e-30).sqrt() for change in changes]
    changes = [change / scale for change, scale in zip(changes, scales, strict=True)]
    normal = torch.stack([torch.stack([inner(a, b) for b in changes], -1) for a in changes], -2)  # (h, w, K, K)
    right = torch.stack([inner(residual, change) for change in changes], -1)
    ridge = 1e-2 * normal.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None] + 1e-12
    normal = normal + ridge * torch.eye(len(changes), device=normal.device)
    solved = -torch.linalg.solve(normal, right.unsqueeze(-1)).squeeze(-1) / torch.stack(scales)
    return solved.clamp(-2.0, 2.0).permute(2, 0, 1).unsqueeze(1)


LONG_MEMORY, SHORT_MEMORY = (0.8, 0.95), (0.7, 0.9)  # Adam's betas; the first pair is an earlier default of the engine.
RATES = (0.03, 0.045, 0.06, 0.073, 0.09, 0.12)

METHODS: dict[str, Method] = {
    **{name: Method(original, steps, {"rate": rate}) for name, (rate, steps) in ORIGINAL.items()},
    "encoder iteration": Method(encoder_iteration, 15, {"rho": 0.6}, {"rho": (0.4, 0.6, 0.8, 1.0)}),
    "encoder iteration, Adam": Method(encoder_adam, 30, {"rate": 0.01}, {"rate": (0.01, 0.02, 0.04, 0.08)}),
    "encoder iteration, Nesterov": Method(
        encoder_nesterov, 15, {"rho": 0.4, "momentum": 0.5}, {"rho": (0.2, 0.4, 0.6), "momentum": (0.3, 0.5, 0.8)}
    ),
    "encoder iteration, Anderson": Method(
        encoder_anderson, 15, {"rho": 0.6, "memory": 3}, {"rho": (0.4, 0.6, 1.0), "memory": (1, 3, 5)}
    ),
    "encoder iteration, line search": Method(encoder_line_search, 15),
    "Adam (0.8, 0.95)": Method(adam, 50, {"rate": 0.073, "betas": LONG_MEMORY}, {"rate": RATES}),
    "Adam (0.7, 0.9)": Method(adam, 50, {"rate": 0.06, "betas": SHORT_MEMORY}, {"rate": RATES}),
    "Adam (0.7, 0.9), cosine": Method(
        partial(adam, cosine=True), 50, {"rate": 0.09, "betas": SHORT_MEMORY}, {"rate": RATES}
    ),
    "two encoder steps, Adam (0.7, 0.9)": Method(
        partial(adam, warm=2), 50, {"rate": 0.06, "betas": SHORT_MEMORY}, {"rate": RATES}
    ),
    "Adam, a rate per channel": Method(channel_adam, 50, {"rate": 0.06, "betas": SHORT_MEMORY}, {"rate": RATES}),
    "Adam, whitened": Method(
        whitened_adam, 50, {"rate": 0.09, "betas": SHORT_MEMORY, "damping": 1.0},
        {"rate": (0.06, 0.09, 0.12), "damping": (0.3, 1.0)},
    ),
    "L-BFGS": Method(lbfgs, 50, {"first": 0.03}, {"first": (0.01, 0.03, 0.1)}),
    "encoder and gradient plane": Method(subspace, 30, {"rate": 0.06}, {"rate": (0.03, 0.06, 0.12)}),
    "linear surrogate": Method(
        surrogate, 15, {"rate": 0.6, "inner": 4, "damping": 0.1},
        {"rate": (0.3, 0.6, 1.0), "inner": (4, 8), "damping": (0.03, 0.1, 0.3)},
    ),
    "Anderson, preconditioned gradient": Method(
        gradient_anderson, 50, {"rate": 0.5, "damping": 2.0, "memory": 4, "window": 1},
        {"rate": (0.5, 1.0), "damping": (0.5, 2.0), "window": (None, 1, 2)},
    ),
}  # fmt: skip

# Measured by default in a test run, together with the presets; the other methods are compared on val.
STANDARD = (*ORIGINAL, "encoder iteration", "two encoder steps, Adam (0.7, 0.9)")
