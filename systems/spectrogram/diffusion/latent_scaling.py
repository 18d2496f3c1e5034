"""From unscaled latents, as the decoder takes them, to those that the network sees, and back."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class LatentScaling:
    """Latents z become (z − mean) / σ. σ is measured on the latents that are trained on: Stable Diffusion's 1/σ, 0.18215, is of
    another VAE, and makes the noise of the schedule too strong or too weak.

    mean: of each channel, 0 where it is not subtracted. std: σ, over all values.
    """

    mean: tuple[float, ...]
    std: float

    @classmethod
    def of(cls, latents: Tensor, subtract_mean: bool = False) -> "LatentScaling":
        """Measured on latents (N, C, h, w). σ is that of all values, after the channels' means where they are subtracted."""
        wide = latents.double()
        mean = wide.mean((0, 2, 3)) if subtract_mean else torch.zeros(latents.shape[1], dtype=torch.float64)
        std = (wide - mean[:, None, None]).std(correction=0)
        return cls(tuple(mean.tolist()), float(std))

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "LatentScaling":
        """What `record` returned."""
        return cls(tuple(record["mean"]), record["std"])

    def record(self) -> dict[str, Any]:
        """As a model's `model.json` has it; scaling_factor is 1/σ, as diffusers calls it."""
        return {"mean": list(self.mean), "std": self.std, "scaling_factor": 1.0 / self.std}

    def scale(self, latents: Tensor) -> Tensor:
        """(B, C, h, w), unscaled to scaled."""
        return (latents - self._mean(latents)) / self.std

    def unscale(self, latents: Tensor) -> Tensor:
        """(B, C, h, w), scaled to unscaled."""
        return latents * self.std + self._mean(latents)

    def _mean(self, latents: Tensor) -> Tensor:
        return torch.tensor(self.mean, dtype=latents.dtype, device=latents.device)[:, None, None]
