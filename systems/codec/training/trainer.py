"""The training loop. It can be killed at any moment: started again, it goes on from its last checkpoint to the same weights."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from ....engine.errors import UsageError
from ....engine.runtime.device import resolve_device
from ..bitstream.model_folder import save_model
from ..bitstream.streams import entropy_coder
from ..inter_scale import InterScaleRegularizer
from ..logged_values import train_values
from ..model.configuration import CONFIGURATIONS
from ..model.hierarchy import SCALES
from ..model.network import HierarchicalCodec
from ..rate_distortion import RateDistortionLoss
from ..spectral_truncation import SpectralTruncation
from .checkpoint import NAME, load_checkpoint, save_checkpoint
from .crops import CropDataset, batches
from .run_log import RunLog
from .schedule import learning_rate
from .settings import TrainingSettings
from .tester import load_test_pictures, test

MODEL, BEST = "model", "best"  # folders of a model: the last one, and that of the least test loss
EPOCH_SEED = 1_000_003  # seeds of different epochs must differ, also those of neighbouring --seed
Progress = Callable[[str], None]


class Trainer:
    """One training. workers, log_every, save_every, wandb: what does not change its result; `save_every` is in steps."""

    def __init__(
        self,
        settings: TrainingSettings,
        workers: int = 0,
        log_every: int = 10,
        save_every: int = 500,
        wandb: bool = False,
        progress: Progress = print,
    ) -> None:
        if settings.model_name not in CONFIGURATIONS:
            raise UsageError(f"model_name: expected one of {', '.join(CONFIGURATIONS)}, found {settings.model_name!r}")
        self.settings, self.workers, self.log_every, self.save_every = settings, workers, log_every, save_every
        self.progress, self.wandb = progress, wandb
        self.device = resolve_device(settings.device)
        self.dataset = CropDataset(settings.train_dataset, settings.patch_size, settings.seed)
        if len(self.dataset) < settings.batch_size:
            raise UsageError(
                f"train_dataset: {len(self.dataset)} pictures make no batch of {settings.batch_size}; "
                "give more pictures or a smaller --batch-size"
            )
        entropy_coder()  # a model cannot be saved without: said now, not at the end
        self.test_pictures = load_test_pictures(settings.test_dataset) if settings.test_dataset else []
        torch.manual_seed(settings.seed)
        self.model = HierarchicalCodec(settings.model_name).to(memory_format=torch.channels_last).to(self.device)
        self.criterion = RateDistortionLoss(settings.lmbda, _regularizer(settings), settings.penalty_start)
        self.criterion.to(self.device)
        self.truncation = None
        if settings.spectral_reg:
            self.truncation = SpectralTruncation(
                settings.tau_init, settings.tau_final, settings.truncation_epochs, settings.ramp_epochs
            )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate)
        self.epoch, self.batch, self.step, self.skipped = 0, 0, 0, 0
        self.best: float | None = None
        self._start()

    @property
    def batches_per_epoch(self) -> int:
        return len(self.dataset) // self.settings.batch_size

    def run(self) -> dict[str, Any]:
        """Train to the end. Returns steps, skipped batches, the last test and the folders of the models."""
        log = RunLog(self.settings.log_folder, self.step, self.wandb, asdict(self.settings))
        tested: dict[str, float] = {}
        while self.epoch < self.settings.epochs:
            self._train_epoch(log)
            tested = self._end_epoch(log)
        log.close()
        folder = self.settings.folder
        save_model(self.model, folder / MODEL, self.settings.lmbda)
        result: dict[str, Any] = {"steps": self.step, "skipped": self.skipped, "model": str(folder / MODEL)}
        if self.test_pictures:
            result |= tested or test(self.model, self.criterion, self.test_pictures)
            result["best"] = str(folder / BEST)
        return result

    def _start(self) -> None:
        """Go on from the run's own checkpoint, or start from the given one."""
        own = self.settings.folder / NAME
        if own.exists():
            content = load_checkpoint(own, str(self.device))
            differing = [k for k, v in self.settings.decisive().items() if content["settings"].get(k, v) != v]
            if differing:
                raise UsageError(
                    f"{own} is of other settings ({', '.join(differing)}); give the same ones, or another --save_path"
                )
            self._load(content)
            self.progress(f"going on at step {self.step}, epoch {self.epoch}")
        elif self.settings.checkpoint is not None:
            content = load_checkpoint(Path(self.settings.checkpoint), str(self.device))
            if content["settings"]["model_name"] != self.settings.model_name:
                raise UsageError(
                    f"--checkpoint is of the model {content['settings']['model_name']}; give --model_name so, or another one"
                )
            if content["settings"]["lmbda"] == self.settings.lmbda:
                self._load(content | {"best": None})
            else:
                self.model.load_state_dict(content["model"])
            self.progress(f"starting from {self.settings.checkpoint} at epoch {self.epoch}")
        if len(self.optimizer.param_groups) == 1 and self.criterion.regularizer is not None:
            self.optimizer.add_param_group({"params": list(self.criterion.parameters())})

    def _load(self, content: dict[str, Any]) -> None:
        self.model.load_state_dict(content["model"])
        state = content["optimizer"]
        if content["criterion"] and self.criterion.regularizer is not None:
            self.criterion.load_state_dict(content["criterion"])
            self.optimizer.add_param_group({"params": list(self.criterion.parameters())})
        elif content["criterion"]:  # of a run with alignments, which this one has not
            count = len(state["param_groups"][0]["params"])
            state["param_groups"] = state["param_groups"][:1]
            state["state"] = {index: value for index, value in state["state"].items() if index < count}
        self.optimizer.load_state_dict(state)
        for name in ("epoch", "batch", "step", "skipped", "best"):
            setattr(self, name, content[name])
        torch.set_rng_state(content["rng"].cpu())

    def _save(self, log: RunLog) -> None:
        log.flush()
        content = {
            "settings": self.settings.decisive(),
            "model": self.model.state_dict(),
            "criterion": self.criterion.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: getattr(self, name) for name in ("epoch", "batch", "step", "skipped", "best")},
        }
        save_checkpoint(self.settings.folder / NAME, content)

    def _train_epoch(self, log: RunLog) -> None:
        settings = self.settings
        if self.batch == 0:
            torch.manual_seed(settings.seed * EPOCH_SEED + self.epoch)  # of the quantiser's noise
        begun, first = time.monotonic(), self.batch
        logged: list[dict[str, Any]] = []
        for images in batches(self.dataset, self.epoch, settings.batch_size, first, self.workers):
            rate = self._set_rate()
            terms = self._train_step(images)
            if terms is not None and self.step % self.log_every == 0:
                values = train_values(terms, rate, self.epoch, self.truncation)
                log.write(values, self.step, self.epoch)
                logged.append(values)
            self.step, self.batch = self.step + 1, self.batch + 1
            if self.step % self.save_every == 0:
                self._save(log)
        if logged:
            loss, bpp, psnr = (fmean(v[f"train/{name}"] for v in logged) for name in ("loss", "bpp_loss", "psnr"))
            seconds = (time.monotonic() - begun) / max(1, self.batch - first)
            phase = logged[-1]["spectral/phase"]
            self.progress(
                f"epoch {self.epoch}: loss {loss:.4f}, {bpp:.4f} bpp, {psnr:.2f} dB, {phase}, {seconds:.3f} s a step"
            )

    def _set_rate(self) -> float:
        settings = self.settings
        done = (self.epoch + self.batch / self.batches_per_epoch) / settings.epochs
        rate = learning_rate(settings.learning_rate, settings.lr_schedule, done, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _train_step(self, pictures: Tensor) -> dict[str, Tensor] | None:
        """One update; None where the gradient is not finite, and the batch is skipped."""
        settings = self.settings
        images = pictures.to(self.device, torch.float32).div_(255).contiguous(memory_format=torch.channels_last)
        if self.truncation is not None:
            images = self.truncation(images, self.epoch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            output = self.model(images)
        bits = {"y": output.y_bits, "z": output.z_bits}
        terms: dict[str, Tensor] = self.criterion(
            output.reconstruction, images, bits, output.latents_hierarchy, self.epoch
        )
        self.optimizer.zero_grad()
        terms["loss"].backward()
        limit = settings.clip_max_norm or float("inf")
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if not torch.nn.utils.clip_grad_norm_(parameters, limit).isfinite():
            self.skipped += 1
            self.progress(f"step {self.step}: the gradient is not finite; the batch is skipped")
            return None
        self.optimizer.step()
        return terms

    def _end_epoch(self, log: RunLog) -> dict[str, float]:
        tested = {}
        if self.test_pictures:
            tested = test(self.model, self.criterion, self.test_pictures)
            log.write(tested, self.step - 1, self.epoch)
            loss, bpp, psnr = (tested[f"test/{name}"] for name in ("loss", "bpp_loss", "psnr"))
            self.progress(f"test {self.epoch}: loss {loss:.4f}, {bpp:.4f} bpp, {psnr:.2f} dB")
            if self.best is None or loss < self.best:
                self.best = loss
                save_model(self.model, self.settings.folder / BEST, self.settings.lmbda)
        self.epoch, self.batch = self.epoch + 1, 0
        self._save(log)
        return tested


def _regularizer(settings: TrainingSettings) -> InterScaleRegularizer | None:
    if not settings.phase2_reg:
        return None
    channels = (CONFIGURATIONS[settings.model_name].latent_channels,) * SCALES
    return InterScaleRegularizer(settings.delta, channels, settings.distance, settings.normalise)
