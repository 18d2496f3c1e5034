"""A checkpoint has all that a training needs to go on exactly; written atomically, so that none is ever torn."""

import pickle
from pathlib import Path
from typing import Any

import torch

from ....engine.errors import UsageError
from ....engine.runtime.atomic import atomic_path


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors, numbers, `settings` and `data`, a digest of what is trained on."""
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, device: torch.device | str = "cpu", keys: set[str] | None = None) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, no code in it. keys: those it must have; None: any. Raises `UsageError` in one line."""
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"{path} cannot be read as a checkpoint ({reason}); remove it to start anew") from error
    if not isinstance(content, dict) or (keys is not None and set(content) != keys):
        raise UsageError(f"{path} is no checkpoint of this training; remove it to start anew")
    return content


def load_own_checkpoint(
    path: Path, device: torch.device, keys: set[str], settings: dict[str, Any], data: str, of_data: str
) -> dict[str, Any] | None:
    """The checkpoint to go on from, None where there is none. Raises `UsageError` for one of other settings, or of other data.

    settings: those that must be equal. data: the digest that must be equal, of what the message calls `of_data`.
    """
    if not path.exists():
        return None
    content = load_checkpoint(path, device, keys | {"settings", "data"})
    differing = [name for name, value in settings.items() if content["settings"].get(name, value) != value]
    if differing or content["data"] != data:
        what = f"of other settings ({', '.join(differing)})" if differing else f"of other {of_data}"
        raise UsageError(f"{path} is {what}; give the same ones or another output_dir, or remove it to start anew")
    return content
