"""How a training writes its checkpoints."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from ....engine.runtime.atomic import atomic_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes each file under another name in its own folder, and renames it once it is complete and on the disk.

    Lightning's own way writes it to the folder for temporary files and moves it: where that is another file system, moving is
    copying, and a kill leaves a part of a file under the final name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with atomic_path(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


def remove_partial(folder: Path) -> None:
    """Remove what killed trainings left of checkpoints that they did not complete."""
    for path in folder.glob(".*.partial-*.ckpt"):
        path.unlink(missing_ok=True)


def every_epoch(folder: Path, name: str) -> ModelCheckpoint:
    """A callback that writes a checkpoint of each epoch in place of the one before.

    `save_last` of the callback that keeps the best ones does so only in epochs that are among the best.
    """
    return ModelCheckpoint(folder, filename=Path(name).stem, save_on_train_epoch_end=True, enable_version_counter=False)
