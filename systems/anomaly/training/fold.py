"""The training of one fold: its folder, trainer, checkpoints and log."""

import importlib.util
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from ....engine.errors import UsageError
from ..model.checkpoint import read_checkpoint
from .checkpoint_files import AtomicCheckpointIO, every_epoch, remove_partial
from .data_module import VolumeDataModule
from .early_stopping import ResumableEarlyStopping
from .lightning_module import VQVAEModule
from .settings import TrainingSettings

LAST = "last.ckpt"
MONITOR = "val/total_loss"
EXPECTED_WARNINGS = (
    "Checkpoint directory .* exists and is not empty",  # a training that goes on
    ".*isinstance.treespec, LeafSpec",  # Lightning's own use of torch
)


@dataclass(frozen=True)
class Fold:
    """Where the files of one fold of an experiment lie: `{output_dir}/{experiment}/fold_{fold_id}`."""

    output_dir: Path
    experiment: str
    fold_id: int

    @property
    def folder(self) -> Path:
        return self.output_dir / self.experiment / f"fold_{self.fold_id}"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def last(self) -> Path:
        """The checkpoint that a killed training goes on from."""
        return self.checkpoints / LAST


def train_fold(fold: Fold, module: VQVAEModule, data: VolumeDataModule, progress: bool = False) -> Trainer:
    """Train until the last epoch or the early stop, from the fold's `last.ckpt` on where there is one.

    Raises `UsageError` where that checkpoint is damaged or of another model.
    """
    last = _last_checkpoint(fold, module)
    remove_partial(fold.checkpoints)
    seed_everything(module.seed, workers=True, verbose=False)
    settings = module.settings
    checkpoint = ModelCheckpoint(
        fold.checkpoints,
        filename="vqvae-{epoch}-{val/total_loss:.4f}",
        auto_insert_metric_name=False,  # with it the slash of the name would make a folder of each file
        monitor=MONITOR,
        save_top_k=settings.save_top_k,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    trainer = Trainer(
        default_root_dir=fold.folder,
        accelerator=settings.accelerator,
        devices=1,
        max_epochs=settings.epochs,
        precision=_precision(settings),
        gradient_clip_val=settings.gradient_clip,
        callbacks=[
            checkpoint,  # first: it is the trainer's `checkpoint_callback`
            every_epoch(fold.checkpoints, LAST),
            ResumableEarlyStopping(MONITOR, patience=settings.early_stopping_patience),
        ],
        plugins=[AtomicCheckpointIO()],
        logger=_logger(fold, settings),
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=progress,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        for expected in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", expected)
        trainer.fit(module, data, ckpt_path=last, weights_only=True)
    return trainer


def _last_checkpoint(fold: Fold, module: VQVAEModule) -> Path | None:
    if not fold.last.is_file():
        return None
    if read_checkpoint(fold.last)["hyper_parameters"]["model"] != module.hparams["model"]:
        raise UsageError(f"{fold.folder} has a training of another model; give its settings or name another experiment")
    return fold.last


def _precision(settings: TrainingSettings) -> Any:
    """fp16 on a processor would become bf16, which is slow on those that only emulate it."""
    on_cpu = settings.accelerator == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    return "32-true" if on_cpu and settings.precision == "16-mixed" else settings.precision


def _logger(fold: Fold, settings: TrainingSettings) -> Logger:
    if settings.logger == "tensorboard":
        return TensorBoardLogger(fold.folder, name="tensorboard", version="", default_hp_metric=False)
    if importlib.util.find_spec("wandb") is None:
        raise UsageError("training.logger=wandb needs the package wandb; install it or use training.logger=tensorboard")
    os.environ.setdefault("WANDB_MODE", "offline")
    name = f"{fold.experiment}_fold{fold.fold_id}"
    return WandbLogger(
        name=name,
        save_dir=fold.folder,
        offline=True,
        project=settings.wandb_project,
        tags=[*settings.wandb_tags, f"fold{fold.fold_id}"],
    )
