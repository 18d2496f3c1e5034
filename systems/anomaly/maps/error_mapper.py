"""The plain reconstruction error |x − x̂| of a VQ-VAE as a `Mapper`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ....engine.errors import UsageError
from ....engine.runtime.device import DTYPES, resolve_device
from .mapper import MappedVolume, error_map
from .trained_model import TrainedModel


class ErrorMapper:
    """Maps |x − x̂|, with the scores `mean_error`, `max_error` and `p99_error`, the 99th percentile over the voxels."""

    method = "error"

    def __init__(
        self,
        checkpoint: str | Path,
        side: int | None = None,
        batch_size: int = 4,
        precision: str = "fp32",
        device: str = "auto",
    ) -> None:
        """side: voxels; None: that of the training, where the checkpoint states it. batch_size: volumes at once. precision: fp32,
        or bf16 for the convolutions. Raises `UsageError` for a checkpoint that cannot be read and values that do not fit.
        """
        checkpoint = Path(checkpoint)
        if batch_size < 1:
            raise UsageError(f"the batch size is {batch_size}; give a whole number from 1 on")
        if precision not in ("fp32", "bf16"):
            raise UsageError(f"the precision is {precision!r}; give fp32 or bf16")
        self.device, self.batch_size, self.precision = resolve_device(device), batch_size, precision
        trained = TrainedModel.load(checkpoint, side)
        self.side = trained.side
        self._identity = trained.identity | {"precision": precision}
        self.model = trained.model.to(self.device).to(memory_format=torch.channels_last_3d)

    def identity(self) -> dict[str, Any]:
        """The checkpoint's name and SHA-256, the SHA-256 of the model's weights, its configuration, and the precision."""
        return self._identity

    @torch.inference_mode()
    def map(self, volumes: Sequence[np.ndarray]) -> list[MappedVolume]:
        """The maps of (side, side, side) float32 volumes in [0, 1], in their order."""
        found = []
        for start in range(0, len(volumes), self.batch_size):
            batch = np.stack(volumes[start : start + self.batch_size])
            x = torch.from_numpy(batch)[:, None].to(self.device, memory_format=torch.channels_last_3d)
            with torch.autocast(self.device.type, DTYPES[self.precision], enabled=self.precision != "fp32"):
                reconstructions = self.model(x).reconstruction
            decoded = reconstructions[:, 0].float().cpu().numpy()
            found += [error_map(*pair) for pair in zip(batch, decoded, strict=True)]
        return found
