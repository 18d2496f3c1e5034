"""Middle slices of a volume, its reconstruction and the error between them, as pictures in the log."""

from collections.abc import Iterable
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor


def slice_images(volume: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
    """The middle axial slices (H, W) in [0, 1] of two (D, H, W) volumes and of the distance |x − x̂| between them."""
    middle = len(volume) // 2
    x, y = volume[middle].float(), reconstruction[middle].float()
    return {"original": x.clamp(0, 1), "recon": y.clamp(0, 1), "error": (x - y).abs().clamp(0, 1)}


def log_slices(loggers: Iterable[Any], volume: Tensor, reconstruction: Tensor, epoch: int) -> None:
    """Write `val/{original,recon,error}_slice_epochN` to each logger that takes pictures."""
    for part, image in slice_images(volume, reconstruction).items():
        name, pixels = f"val/{part}_slice_epoch{epoch}", image.cpu().numpy()
        for logger in loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(name, pixels, epoch, dataformats="HW")
            elif hasattr(logger, "log_image"):
                logger.log_image(name, [pixels])
