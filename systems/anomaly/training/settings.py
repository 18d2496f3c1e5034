"""The settings of a training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ....engine.errors import UsageError
from ..sections import read_section

CHOICES = {
    "recon_loss": ("l1", "l2"),
    "optimizer": ("adam", "adamw"),
    "scheduler": ("cosine", "plateau"),
    "logger": ("tensorboard", "wandb"),
}


@dataclass(frozen=True)
class TrainingSettings:
    """The keys of `config/training/vae_training.yaml`. Raises `UsageError` for values that make no training."""

    epochs: int = 200
    recon_loss: str = "l1"
    optimizer: str = "adamw"
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    scheduler: str = "cosine"
    min_learning_rate: float = 1e-6
    gradient_clip: float = 1.0
    precision: str = "16-mixed"
    early_stopping_patience: int = 20
    save_top_k: int = 3
    log_image_freq: int = 5
    accelerator: str = "auto"
    logger: str = "tensorboard"
    wandb_project: str = "vertebrae-vqvae"
    wandb_tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"training.{name} is {getattr(self, name)!r}; give {' or '.join(choices)}")
        for name in ("epochs", "early_stopping_patience", "save_top_k", "log_image_freq"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UsageError(f"training.{name} is {value!r}; give a whole number from 1 on")
        for name in ("learning_rate", "weight_decay", "min_learning_rate", "gradient_clip"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise UsageError(f"training.{name} is {value!r}; give a finite number from 0 on")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "TrainingSettings":
        """The settings with `values` in place of the defaults. Raises `UsageError` for unknown keys."""
        return read_section(cls, "training", values)


@dataclass(frozen=True)
class DatasetSettings:
    """The keys of `config/dataset/vae_data.yaml`. Raises `UsageError` for values that make no data set."""

    data_dir: str  # a folder of volumes, or an archive .npz, which has its own splits
    folds_file: str | None = None  # not used with an archive
    volume_size: int = 128
    augment: bool = True
    batch_size: int = 4
    num_workers: int = 0

    def __post_init__(self) -> None:
        for name, least in (("volume_size", 1), ("batch_size", 1), ("num_workers", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise UsageError(f"dataset.{name} is {value!r}; give a whole number from {least} on")
