"""The cache on disk of what is measured once per decoder."""

import logging
import os
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def cache_folder(name: str) -> Path:
    """Return `$XDG_CACHE_HOME/relatent/<name>`, or the same under `~/.cache`; the folder need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relatent" / name


def read_tensors(path: Path) -> Any:
    """Return what `write_tensors` stored, on the CPU; None where there is no file, or where it is damaged."""
    if not path.is_file():
        return None
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch makes of it
        logger.info("computing again what %s held, which is damaged: %s", path, error)
        return None


def write_tensors(path: Path, value: Any) -> None:
    """Store tensors, or plain containers of them; where the folder cannot be written to, they are computed again next time."""
    import torch

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        torch.save(value, temporary)
        os.replace(temporary, path)
    except OSError as error:
        logger.info("not stored: %s", error)
