"""A checkpoint has all that a training of the diffusion needs to go on exactly; written atomically, so that none is ever torn."""

import pickle
from pathlib import Path
from typing import Any

import torch

from ....engine.errors import UsageError
from ....exporters.files.atomic import atomic_path

NAME = "checkpoint.pt"
KEYS = {"settings", "data", "model", "optimizer", "scaler", "ema", "step", "skipped", "validation_loss", "best"}


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors, numbers and settings."""
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, device: torch.device | str = "cpu", keys: set[str] = KEYS) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, no code in it. Raises `UsageError` in one line."""
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"{path} cannot be read as a checkpoint ({reason}); remove it to start anew") from error
    if not isinstance(content, dict) or set(content) != keys:
        raise UsageError(f"{path} is no checkpoint of `relatent spectrogram train`; remove it to start anew")
    return content
