"""Writing of `.pt` and `.safetensors` files, in which a full disk is the `OSError` that it is with every other file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


class _Kept:
    """A file for torch, which reports an error of its own where a write fails; the system's is kept in `error`."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.error: OSError | None = None

    def write(self, data: memoryview) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def save_pt(content: Any, path: Path) -> None:
    """Write `content` as `torch.save` does. Raises `OSError` where it cannot be written."""
    import torch

    with path.open("wb") as file:
        kept: Any = _Kept(file)  # not of the type that torch names, but with all that it calls
        try:
            torch.save(content, kept)
        except RuntimeError:
            if kept.error is not None:
                raise kept.error from None
            raise


def save_safetensors(tensors: Mapping[str, np.ndarray], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors and the texts of the header. They are held once more in memory. Raises `OSError` where they cannot be
    written."""
    from safetensors.numpy import save

    path.write_bytes(save(dict(tensors), dict(metadata)))
