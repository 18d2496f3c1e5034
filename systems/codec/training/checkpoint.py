"""A checkpoint has all that a training needs to go on exactly: written atomically, so that a killed one is never torn."""

import pickle
from pathlib import Path
from typing import Any

import torch

from ....engine.runtime.atomic import atomic_path
from ..errors import CodecModelError

NAME = "checkpoint.pth"
KEYS = {"settings", "model", "criterion", "optimizer", "epoch", "batch", "step", "skipped", "best", "rng"}


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors, numbers and settings; the random state of torch is added."""
    with atomic_path(path) as temporary:
        torch.save({**content, "rng": torch.get_rng_state()}, temporary)


def load_checkpoint(path: Path, device: str) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, no code in it. Raises `CodecModelError` in one line."""
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise CodecModelError(f"{path} cannot be read as a checkpoint: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or set(content) != KEYS:
        raise CodecModelError(f"{path} is no checkpoint of `relatent codec train`")
    return content
