"""Gradient-free searches: iterations of the encoder's correction E(D(z)) − E(x), and ways to accelerate them.

Gradient-free decoder inversion: Hong et al., NeurIPS 2024, arXiv 2409.18442. The interface is that of `methods.py`.
"""

import math
from itertools import pairwise

import torch

from .evaluation_counter import EvaluationCounter

RHO = 0.6  # Step size of the encoder steps that precede another method.


def correction(counter: EvaluationCounter, latents: torch.Tensor) -> torch.Tensor:
    """Return E(D(z)) − E(x), the encoder's estimate of the error of the latents."""
    with torch.no_grad():
        return counter.encode(counter.decode(latents)) - counter.start


def encoder_steps(counter: EvaluationCounter, latents: torch.Tensor, count: int, rho: float = RHO) -> torch.Tensor:
    """Apply z ← z − ρ(E(D(z)) − E(x)) `count` times, or as often as the budget allows."""
    for _ in range(min(count, counter.iterations(counter.costs.encoder_step))):
        latents = latents - rho * correction(counter, latents)
    return latents


def encoder_iteration(counter: EvaluationCounter, rho: float) -> torch.Tensor:
    """Apply encoder steps until the budget is spent."""
    return encoder_steps(counter, counter.start, counter.iterations(counter.costs.encoder_step), rho)


def encoder_adam(counter: EvaluationCounter, rate: float, warm_up: float = 0.1) -> torch.Tensor:
    """Run Adam on the correction, with a linear warm-up and a cosine schedule down to 0, as in the paper's experiments."""
    latents = counter.start.clone()
    optimizer = torch.optim.Adam([latents], lr=rate * counter.sigma)
    steps = counter.iterations(counter.costs.encoder_step)
    rising = max(1, round(warm_up * steps))
    for step in range(steps):
        share = (
            (step + 1) / rising if step < rising else 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))
        )
        optimizer.param_groups[0]["lr"] = rate * counter.sigma * share
        latents.grad = correction(counter, latents)
        optimizer.step()
    return latents.detach()


def encoder_nesterov(counter: EvaluationCounter, rho: float, momentum: float) -> torch.Tensor:
    """Apply encoder steps with Nesterov's momentum (1983): the correction is evaluated at the extrapolated point."""
    latents, velocity = counter.start, torch.zeros_like(counter.start)
    while counter.affords(counter.costs.encoder_step):
        ahead = latents + momentum * velocity
        moved = ahead - rho * correction(counter, ahead)
        latents, velocity = moved, moved - latents
    return latents


def encoder_anderson(counter: EvaluationCounter, rho: float, memory: int) -> torch.Tensor:
    """Apply Anderson acceleration (Walker & Ni, 2011) to the fixed point z = z − ρ(E(D(z)) − E(x))."""
    latents = counter.start
    points: list[torch.Tensor] = []
    residuals: list[torch.Tensor] = []
    while counter.affords(counter.costs.encoder_step):
        points = [*points, latents][-memory - 1 :]
        residuals = [*residuals, -rho * correction(counter, latents)][-memory - 1 :]
        latents = latents + residuals[-1]
        if len(points) > 1:
            moves = torch.stack([(b - a).flatten() for a, b in pairwise(points)], 1)
            changes = torch.stack([(b - a).flatten() for a, b in pairwise(residuals)], 1)
            normal = changes.T @ changes
            ridge = 1e-4 * normal.diagonal().mean() * torch.eye(len(normal), device=normal.device)
            mixed = torch.linalg.solve(normal + ridge, changes.T @ residuals[-1].flatten())
            latents = latents - ((moves + changes) @ mixed).view_as(latents)
    return latents


def encoder_line_search(counter: EvaluationCounter) -> torch.Tensor:
    """Apply encoder steps whose ρ comes from a line search with a second decoding.

    With the residual r and the change δ = D(z + d) − D(z), ρ is −⟨r, δ⟩ / ⟨δ, δ⟩, the optimum if D were linear in
    between.
    """
    latents = counter.start
    with torch.no_grad():
        while counter.affords(counter.costs.encoder_step + counter.costs.decode):
            picture = counter.decode(latents)
            step = counter.start - counter.encode(picture)
            change = counter.decode(latents + step) - picture
            latents = latents + step * ((counter.target - picture) * change).sum() / change.square().sum()
    return latents
