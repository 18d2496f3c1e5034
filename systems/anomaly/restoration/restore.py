"""Restoration of volumes by the engine's loop."""

import dataclasses
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....engine.optimization.optimizer import OptimizationResult, finish, start_loop
from .autoencoder import VolumeAutoencoder
from .priors.registry import Prior
from .settings import RestorationSettings


def restore(
    autoencoder: VolumeAutoencoder, volumes: Sequence[Tensor], settings: RestorationSettings, prior: Prior | None
) -> list[OptimizationResult]:
    """Minimise loss(D(z), x) + λ prior(z) for each volume, from z_e of the encoder on; the results in the volumes' order.

    volumes: (1, D, H, W) fp32 in [0, 1], of one size. A volume that is done leaves its slot to the next. Of each volume's
    start, best and last latents the one with the lowest sum is kept, so that no result is worse than its start.
    """
    config = settings.optimization
    if prior is not None and settings.weight:
        config = dataclasses.replace(config, regularisers=Weighted(prior, settings.weight))
    results: dict[int, OptimizationResult] = {}
    waiting, slots = deque(range(len(volumes))), min(settings.batch_size, len(volumes))
    loop, flight = None, dict[int, int]()  # position by slot
    while waiting or flight:
        if waiting and (loop is None or loop.free):
            free = list(range(slots)) if loop is None else loop.free
            positions = [waiting.popleft() for _ in free[: len(waiting)]]
            targets = torch.stack([volumes[position] for position in positions])
            latents = autoencoder.encode(targets)
            if loop is None:
                loop = start_loop(autoencoder, config, latents, targets)
            loop.load(free[: len(positions)], latents, targets)
            flight.update(zip(free, positions, strict=False))
        assert loop is not None
        done = loop.advance()
        if done:
            for slot, result in zip(done, finish(autoencoder, loop, done, torch.device("cpu")), strict=True):
                results[flight.pop(slot)] = result
    return [results[position] for position in range(len(volumes))]


@dataclass(frozen=True)
class Weighted:
    """λ × a prior, as the engine's loop takes a penalty; equal ones share a loop."""

    prior: Prior
    weight: float

    def __call__(self, latents: Tensor, initial: Tensor, step: Tensor | None = None) -> Tensor:
        """(B, dim, d, h, w) -> (B,)."""
        return self.weight * self.prior(latents, initial, step)
