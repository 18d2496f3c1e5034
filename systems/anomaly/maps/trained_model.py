"""A trained model with the side of its volumes and what a file states of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....engine.autoencoders.weights_hash import weights_sha256
from ....engine.errors import UsageError
from ....engine.runtime.atomic import file_sha256
from ..model.checkpoint import load_model, read_checkpoint
from ..model.vqvae import VQVAE3D
from .side import trained_side


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """model: on the processor, in evaluation mode. side: voxels. identity: JSON-ready. contents: the checkpoint's entries."""

    model: VQVAE3D
    side: int
    identity: dict[str, Any]
    contents: dict[str, Any]

    @classmethod
    def load(cls, checkpoint: Path, side: int | None = None) -> "TrainedModel":
        """side: None: that of the training, where the checkpoint states it.

        Raises `UsageError` for a checkpoint that cannot be read and a side that is not known or does not fit.
        """
        model, contents = load_model(checkpoint), read_checkpoint(checkpoint)
        found = side or trained_side(checkpoint)
        if found is None:
            raise UsageError(f"{checkpoint} does not state the side of its training's volumes; give one")
        if found < 1 or found % model.config.factor:
            raise UsageError(f"the side is {found} voxels; this model needs a multiple of {model.config.factor}")
        identity = {
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": file_sha256(checkpoint),
            "model_sha256": weights_sha256([model]),
            "configuration": contents["hyper_parameters"],
        }
        return cls(model, found, identity, contents)
