"""The configuration of the 3-D VQ-VAE."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ....engine.errors import UsageError
from ..sections import read_section


@dataclass(frozen=True)
class VQVAEConfig:
    """The keys of `config/model/vq_vae.yaml`. Raises `UsageError` for values that make no model."""

    in_channels: int = 1
    hidden_channels: tuple[int, ...] = (32, 64, 128, 256)  # one halving of the volume each
    embedding_dim: int = 256
    num_embeddings: int = 512
    commitment_cost: float = 0.25  # β
    use_ema: bool = False
    ema_decay: float = 0.99
    dead_code_share: float = 0.1  # with EMA: a code used less often than this share of 1 / num_embeddings is replaced
    dropout: float = 0.1

    def __post_init__(self) -> None:
        counts = (self.in_channels, *self.hidden_channels, self.embedding_dim, self.num_embeddings)
        if not self.hidden_channels or not all(isinstance(each, int) and each >= 1 for each in counts):
            raise UsageError("model: numbers of channels, embedding_dim and num_embeddings are whole numbers from 1 on")
        if not 0 <= self.dropout < 1 or not 0 < self.ema_decay < 1 or not 0 <= self.dead_code_share < 1:
            raise UsageError("model: dropout and dead_code_share lie in [0, 1), ema_decay in (0, 1)")
        if not 0 <= self.commitment_cost < float("inf"):
            raise UsageError(f"model.commitment_cost is {self.commitment_cost}; give a finite number from 0 on")

    @property
    def factor(self) -> int:
        """How many voxels of an axis one latent position stands for; 16 with four halvings."""
        return 2 ** len(self.hidden_channels)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "VQVAEConfig":
        """The configuration with `values` in place of the defaults. Raises `UsageError` for unknown keys."""
        return read_section(cls, "model", values)
