"""The detector as a `Mapper`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ....engine.errors import UsageError
from ....engine.runtime.atomic import file_sha256
from ....engine.runtime.device import resolve_device
from ..maps.mapper import MappedVolume, Mapper
from .checkpoint import load_detector

TOP = 0.001  # the share of the voxels whose mean is `top_probability`
BATCH = 4  # volumes at once
# of the base's identity: what must be as in the training. Precision and device may differ
BASE_KEYS = ("model_sha256", "prior", "prior_weight", "prior_sha256", "optimization")


class DetectorMapper:
    """Maps the probability that a voxel is abnormal, in [0, 1], from another mapper's maps and the volumes.

    The reconstruction and the scores are those of the other mapper, and beside them `max_probability`, `mean_probability` and
    `top_probability`, the mean of the 0.1 % of the voxels with the largest.
    """

    method = "detector"

    def __init__(self, base: Mapper, detector: Path, device: str | torch.device = "auto") -> None:
        """base: makes the maps, as in the detector's training; it has its own device.

        Raises `UsageError` for a file that cannot be read, a side that does not fit, and maps of another kind than the training's.
        """
        trained = load_detector(detector)
        identity = json.loads(json.dumps(base.identity()))  # as the file gives it back
        differing = [key for key in BASE_KEYS if trained.base.get(key) != identity.get(key)]
        if differing:
            raise UsageError(
                f"{detector} was trained with maps of another model: {', '.join(differing)} differ; give that model, or train "
                "a detector with this one"
            )
        if base.side % trained.network.factor:
            raise UsageError(
                f"the side is {base.side} voxels; the detector needs a multiple of {trained.network.factor}"
            )
        self.base, self.side, self.device = base, base.side, resolve_device(device)
        self.scale, self.patients, self.history = trained.scale, trained.patients, trained.history
        self.network = trained.network.to(self.device)
        self._identity = {
            **identity,
            "detector": detector.name,
            "detector_sha256": file_sha256(detector),
            "detector_settings": trained.settings.to_dict(),
        }

    def identity(self) -> dict[str, Any]:
        """The identity of the base, the detector's name and SHA-256, and the settings of its training."""
        return self._identity

    @torch.inference_mode()
    def map(self, volumes: Sequence[np.ndarray]) -> list[MappedVolume]:
        """The maps of (side, side, side) float32 volumes in [0, 1], in their order."""
        found = []
        for start in range(0, len(volumes), BATCH):
            some = volumes[start : start + BATCH]
            mapped = self.base.map(some)
            channels = np.stack([np.stack([one.error / self.scale, x]) for one, x in zip(mapped, some, strict=True)])
            logits = self.network(torch.from_numpy(channels.astype(np.float32)).to(self.device))
            probabilities = logits.sigmoid()[:, 0].float().cpu().numpy()
            found += [
                MappedVolume(p, one.reconstruction, one.scores | scores_of(p))
                for p, one in zip(probabilities, mapped, strict=True)
            ]
        return found


def scores_of(probabilities: np.ndarray) -> dict[str, float]:
    """`max_probability`, `top_probability` and `mean_probability` of a (D, H, W) map."""
    count = max(1, round(TOP * probabilities.size))
    top = np.partition(probabilities.ravel(), -count)[-count:]
    return {
        "max_probability": float(probabilities.max()),
        "top_probability": float(top.mean(dtype=np.float64)),
        "mean_probability": float(probabilities.mean(dtype=np.float64)),
    }
