"""Where a training's values go: TensorBoard."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid


class RunLog:
    """Writes values by step. What an interrupted training wrote after its checkpoint is hidden: no step is there twice."""

    def __init__(self, folder: Path, step: int, write: bool = True) -> None:
        """folder: made if need be. step: where the training goes on. write: False in all processes of a training but the main one."""
        self.writer = SummaryWriter(str(folder), purge_step=step) if write else None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Names as `train/loss`."""
        if self.writer is None:
            return
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def grid(self, name: str, rows: Tensor, step: int) -> None:
        """rows: (R, n, 3, H, W) in [−1, 1], shown as R rows of n pictures."""
        if self.writer is None:
            return
        image = make_grid(rows.flatten(0, 1), nrow=rows.shape[1], value_range=(-1, 1), normalize=True)
        self.writer.add_image(name, image, step)

    def flush(self) -> None:
        """Before a checkpoint is written, so that no value older than it can be lost."""
        if self.writer:
            self.writer.flush()

    def close(self) -> None:
        if self.writer:
            self.writer.close()
