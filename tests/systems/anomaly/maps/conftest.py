"""A tiny model's checkpoint, and small volumes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from relatent.systems.anomaly.data.volume import Volume
from relatent.systems.anomaly.data.volume_folder import read_folder
from tiny_vqvae import save_checkpoint, write_volumes


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "last.ckpt")


@pytest.fixture
def volumes(tmp_path: Path) -> Callable[..., list[Volume]]:
    """A function that writes so many volumes into the folder `volumes`, and returns what is read of it."""

    def make(count: int, side: int = 16) -> list[Volume]:
        write_volumes(tmp_path / "volumes", count, side)
        return read_folder(tmp_path / "volumes")[0]

    return make
