"""Restoration as a `Mapper`: |x − D(z*)| beside the plain error |x − D(E(x))|."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ....engine.autoencoders.weights_hash import weights_sha256
from ....engine.errors import UsageError
from ....engine.optimization.optimizer import OptimizationResult
from ....engine.runtime.device import resolve_device
from ..maps.mapper import MappedVolume, error_map
from ..maps.trained_model import TrainedModel
from .autoencoder import VolumeAutoencoder
from .normality import Normality
from .priors.registry import FITTED, build_prior
from .restore import restore
from .settings import RestorationSettings

NORMALITY = "normality"  # the checkpoint's entry for priors that were fitted with it


class RestorationMapper:
    """Maps |x − D(z*)|, z* the restored latents.

    Beside the scores of `ErrorMapper`: `prior`, what the prior says of z*, not weighted, and `moved`, the RMS distance of z*
    from the encoder's z_e.
    """

    method = "restoration"

    def __init__(
        self,
        checkpoint: Path,
        settings: RestorationSettings | None = None,
        normality: Normality | None = None,
        side: int | None = None,
        device: str = "auto",
    ) -> None:
        """normality: the fitted priors; None: those that the checkpoint brings. side: voxels; None: that of the training.

        Raises `UsageError` for a checkpoint that cannot be read, a prior without what it was fitted to, and a side that does not fit.
        """
        self.settings = settings or RestorationSettings()
        trained = TrainedModel.load(checkpoint, side)
        model, self.side, self.device = trained.model, trained.side, resolve_device(device)
        if normality is None and NORMALITY in trained.contents:
            normality = Normality.of_state(trained.contents[NORMALITY], model)
        grid = (self.side // model.config.factor,) * 3
        if self.settings.prior in FITTED and normality is not None and normality.grid != grid:
            raise UsageError(
                f"the priors were fitted to latents {normality.grid}, volumes of this side have {grid}: fit them again"
            )
        self.prior = build_prior(self.settings.prior, model, normality)
        if isinstance(self.prior, nn.Module):
            self.prior.to(self.device)
        self.autoencoder = VolumeAutoencoder(model.to(self.device), checkpoint.name)
        self._identity = trained.identity | {
            "prior": self.settings.prior,
            "prior_weight": self.settings.weight,
            "prior_sha256": weights_sha256([self.prior]) if isinstance(self.prior, nn.Module) else None,
            "optimization": self.settings.optimization.to_dict(),
        }

    def identity(self) -> dict[str, Any]:
        """The checkpoint, the model and its configuration; the prior, its weight and what it was fitted to; the engine's settings."""
        return self._identity

    def map(self, volumes: Sequence[np.ndarray]) -> list[MappedVolume]:
        """The maps of (side, side, side) float32 volumes in [0, 1], in their order."""
        targets = [torch.from_numpy(volume)[None].to(self.device) for volume in volumes]
        results = restore(self.autoencoder, targets, self.settings, self.prior)
        return [self._mapped(*pair) for pair in zip(volumes, results, strict=True)]

    @torch.no_grad()
    def _mapped(self, volume: np.ndarray, result: OptimizationResult) -> MappedVolume:
        z, start = result.optimized_latents.to(self.device), result.initial_latents.to(self.device)
        restored = result.optimized_image[0, 0].cpu().numpy()
        prior = 0.0 if self.prior is None else float(self.prior(z, start, None))
        moved = float((z - start).square().mean().sqrt())
        return error_map(volume, restored, prior=prior, moved=moved)
