"""The training step, what is logged of it, optimiser and learning rate."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from ..model.configuration import VQVAEConfig
from ..model.vqvae import Reconstruction, build_vqvae_3d
from .settings import TrainingSettings
from .slice_images import log_slices


class VQVAEModule(LightningModule):
    """Trains a VQ-VAE on batches (B, 1, D, H, W) in [0, 1]: the `volume` of a mapping, or the first of a tuple or list.

    Logged at the end of each epoch: `{train,val}/{recon_loss,vq_loss,total_loss,perplexity}`, `train/codebook_usage`
    (the share of the codes used in the epoch), `train/learning_rate`, and every `log_image_freq` epochs three slices.
    A checkpoint holds both configurations, so that `load_from_checkpoint(path)` needs nothing else.
    """

    def __init__(
        self, model: VQVAEConfig | Mapping[str, Any], training: TrainingSettings | Mapping[str, Any], seed: int = 42
    ) -> None:
        super().__init__()
        config = model if isinstance(model, VQVAEConfig) else VQVAEConfig.of(model)
        self.settings = training if isinstance(training, TrainingSettings) else TrainingSettings.of(training)
        self.seed = seed
        self.save_hyperparameters(
            {"model": _plain(asdict(config)), "training": _plain(asdict(self.settings)), "seed": seed}
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = build_vqvae_3d(config)
        self.model.to(memory_format=torch.channels_last_3d)  # a step takes 0.6 of the time
        self.used_codes: Tensor
        self.register_buffer("used_codes", torch.zeros(config.num_embeddings, dtype=torch.bool), persistent=False)

    def forward(self, x: Tensor) -> Reconstruction:
        return self.model(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        total, out = self._step(batch, "train")
        self.used_codes[out.indices.flatten()] = True
        return total

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        _, out = self._step(batch, "val")
        if batch_idx == 0 and self.current_epoch % self.settings.log_image_freq == 0:
            log_slices(self.loggers, _volumes(batch)[0, 0], out.reconstruction[0, 0], self.current_epoch)

    def _step(self, batch: Any, part: str) -> tuple[Tensor, Reconstruction]:
        x = _volumes(batch)
        out = self.model(x)
        distance = F.l1_loss if self.settings.recon_loss == "l1" else F.mse_loss
        recon_loss = distance(out.reconstruction.float(), x.float())
        total = recon_loss + out.vq_loss
        values = {"recon_loss": recon_loss, "vq_loss": out.vq_loss, "total_loss": total, "perplexity": out.perplexity}
        named = {f"{part}/{name}": value.detach() for name, value in values.items()}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=len(x))
        return total, out

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seeded by the step: a training that was interrupted goes on with the same random numbers."""
        torch.manual_seed(self.seed + self.global_step)

    def on_train_epoch_start(self) -> None:
        self.used_codes.zero_()
        self.log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self) -> None:
        self.log("train/codebook_usage", self.used_codes.float().mean())

    def configure_optimizers(self) -> Any:
        """The codebook is not among the parameters where running means set it."""
        settings = self.settings
        optimizer = (torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam)(
            [each for each in self.parameters() if each.requires_grad],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        if settings.scheduler == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, min_lr=settings.min_learning_rate)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/total_loss"}}
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs, settings.min_learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine}}


def _volumes(batch: Any) -> Tensor:
    return batch["volume"] if isinstance(batch, Mapping) else batch[0] if isinstance(batch, tuple | list) else batch


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Lists for tuples: `torch.load(weights_only=True)` reads both, YAML only lists."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
