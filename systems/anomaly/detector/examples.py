"""What the detector trains on: error maps and volumes with the regions of their weak labels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Examples:
    """errors: (N, D, H, W) float32 from 0 on. volumes: the same in [0, 1]. inside: booleans, the labelled regions."""

    errors: np.ndarray
    volumes: np.ndarray
    inside: np.ndarray

    def __len__(self) -> int:
        return len(self.errors)

    def batch(self, rows: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Errors, volumes and regions of these rows: (B, 1, D, H, W) each."""
        errors, volumes, inside = (
            torch.from_numpy(one[list(rows)])[:, None].to(device) for one in (self.errors, self.volumes, self.inside)
        )
        return errors, volumes, inside

    def take(self, rows: Sequence[int]) -> "Examples":
        """The examples of these rows."""
        some = list(rows)
        return Examples(self.errors[some], self.volumes[some], self.inside[some])

    def sha256(self) -> str:
        """The SHA-256 digest over all values, in hexadecimal."""
        digest = hashlib.sha256(repr(self.errors.shape).encode())
        for one in (self.errors, self.volumes, self.inside):
            digest.update(np.ascontiguousarray(one).data)
        return digest.hexdigest()
