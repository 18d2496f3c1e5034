"""The training of the VAE. It can be killed at any moment: started again, it goes on from its last checkpoint.

On a CPU it then ends with the weights of a training that was not disturbed: the order of the pictures, their augmentation and
the noise of the posterior depend on seed, epoch and step alone.
"""

import copy
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.utils.data import DataLoader

from ....engine.errors import RunStoppedError, UsageError
from ....engine.runtime.device import resolve_device
from ....engine.version import VERSION
from ..data.dataset import Augmentation, SpectrogramDataset
from ..data.spectrogram import Spectrogram
from ..data.spectrogram_folder import read_index, read_spectrograms
from ..data.split import split_by_recording
from .checkpoint import NAME, load_checkpoint, save_checkpoint
from .evaluation import Reconstruction, latent_statistics, reconstruction_quality
from .losses import VAELoss
from .model import build_vae, remove_partial, save_vae
from .run_log import RunLog
from .schedule import learning_rate
from .settings import VAESettings

LOGS = "vae_logs"
SPLIT_SEED = 0  # not the training's: what one seed trains on must not be what another is judged on
SEED_OF_STEP = 1_000_003  # seeds of different steps must differ, also those of neighbouring `seed`
MOST_SKIPPED = 20  # updates in a row
STATISTICS_PICTURES = 4096  # over which the latents' spread is measured, at most
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Progress = Callable[[str], None]


class VAETrainer:
    """One training. progress: gets a line for every epoch, and one every ten seconds."""

    def __init__(self, settings: VAESettings, progress: Progress = print) -> None:
        """Read the data, and go on from the folder's checkpoint where there is one. Raises `UsageError` and `SpectrogramError`."""
        self.settings, self.progress = settings, progress
        self.device = resolve_device(settings.device)
        self.folder = Path(settings.output_dir)
        items = read_spectrograms(settings.data_dir, settings.num_users)
        training, held_out = split_by_recording(items, settings.held_out, SPLIT_SEED)
        self.data = pictures_digest(items)
        self.training = SpectrogramDataset(training, settings.resolution, Augmentation(), settings.seed)
        self.held_out = SpectrogramDataset(held_out, settings.resolution)
        self.rows = settings.batch_size * settings.gradient_accumulation_steps  # pictures of an update
        if len(training) < self.rows:
            raise UsageError(
                f"{len(training)} pictures to train on make no update of {settings.batch_size} × "
                f"{settings.gradient_accumulation_steps}; give a smaller batch_size or gradient_accumulation_steps"
            )
        self.loss = VAELoss(settings, self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.vae = build_vae(settings).to(self.device, memory_format=torch.channels_last)
        if settings.gradient_checkpointing:
            self.vae.enable_gradient_checkpointing()
        self.optimizer = torch.optim.AdamW(
            self.vae.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.mixed_precision == "fp16")
        self.ema = EMAModel(self.vae.parameters(), decay=settings.ema_decay) if settings.use_ema else None
        self.epoch, self.batch, self.step, self.skipped, self.skipped_now = 0, 0, 0, 0, 0
        self.best: dict[str, Any] = {}  # psnr, ssim, step and the weights, once there are some
        remove_partial(self.folder)
        self._go_on()

    @property
    def updates_per_epoch(self) -> int:
        return len(self.training) // self.rows

    @property
    def steps(self) -> int:
        """Updates of the whole training."""
        all_epochs = self.settings.epochs * self.updates_per_epoch
        return min(all_epochs, self.settings.max_steps or all_epochs)

    def run(self) -> dict[str, Any]:
        """Train to the end, and write the best model. Returns its record, see `save_vae`."""
        log = RunLog(self.folder / LOGS, self.step)
        try:
            while self.step < self.steps:
                self._train_epoch(log)
        finally:
            log.close()
        if not self.best:  # taken up behind its end, with fewer epochs
            self._evaluate()
        return self._write_model()

    def _go_on(self) -> None:
        """Take up the folder's own checkpoint."""
        path = self.folder / NAME
        if not path.exists():
            return
        content = load_checkpoint(path, self.device)
        differing = [k for k, v in self.settings.decisive().items() if content["settings"].get(k, v) != v]
        if differing or content["data"] != self.data:
            what = f"of other settings ({', '.join(differing)})" if differing else "of other pictures"
            raise UsageError(f"{path} is {what}; give the same ones, or another output_dir")
        self.vae.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(content["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(content["ema"])
        for name in ("best", "epoch", "batch", "step", "skipped"):
            setattr(self, name, content[name])
        self.progress(f"going on at step {self.step}, epoch {self.epoch}")

    def _save(self, log: RunLog) -> None:
        log.flush()
        content = {
            "settings": self.settings.decisive(),
            "data": self.data,
            "model": self.vae.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else {},
            **{name: getattr(self, name) for name in ("best", "epoch", "batch", "step", "skipped")},
        }
        save_checkpoint(self.folder, content)

    def _train_epoch(self, log: RunLog) -> None:
        """The updates of an epoch from `self.batch` on, or as many as are left of all; then the evaluation."""
        settings, shown, since = self.settings, time.monotonic(), self.step
        for pictures in self._updates():
            values = self._train_step(pictures)
            if self.step % settings.log_every == 0:
                log.scalars({f"train/{name}": value for name, value in values.items()}, self.step)
            self.step, self.batch = self.step + 1, self.batch + 1
            if (elapsed := time.monotonic() - shown) >= 10.0:
                seconds = elapsed / (self.step - since)
                self.progress(
                    f"step {self.step}/{self.steps}, epoch {self.epoch}: {_terms(values)}, {seconds:.2f} s a step"
                )
                shown, since = time.monotonic(), self.step
            if self.step >= self.steps or self.batch >= self.updates_per_epoch:
                break
            if self.step % settings.save_every == 0:
                self._save(log)
        if self.batch >= self.updates_per_epoch or self.step >= self.steps:
            self._end_epoch(log)

    def _end_epoch(self, log: RunLog) -> None:
        found = self._evaluate()
        log.scalars({"held_out/psnr": found.psnr, "held_out/ssim": found.ssim}, self.step - 1)
        log.grid("held_out/reconstruction", found.shown, self.step - 1)
        self.progress(f"epoch {self.epoch}: {found.psnr:.2f} dB, SSIM {found.ssim:.4f} on held-out recordings")
        if self.batch >= self.updates_per_epoch:
            self.epoch, self.batch = self.epoch + 1, 0
        self._save(log)

    def _updates(self) -> Iterator[list[Tensor]]:
        """The pictures of each update of the epoch, in its own random order, from update number `self.batch` on.

        Each is a list of `gradient_accumulation_steps` tensors (batch_size, 3, R, R). What is left over is left out.
        """
        settings = self.settings
        self.training.set_epoch(self.epoch)
        order = np.random.default_rng((settings.seed, self.epoch)).permutation(len(self.training))
        size, parts = settings.batch_size, settings.gradient_accumulation_steps
        used = order[self.batch * self.rows : self.updates_per_epoch * self.rows].reshape(-1, size).tolist()
        loader = DataLoader(
            self.training, batch_sampler=used, num_workers=settings.num_workers, generator=torch.Generator()
        )
        pictures: list[Tensor] = []
        for batch in loader:
            pictures.append(batch["image"])
            if len(pictures) == parts:
                yield pictures
                pictures = []

    def _train_step(self, pictures: list[Tensor]) -> dict[str, float]:
        """One update. Returns the terms of the loss, the learning rate and the norm of the gradient.

        Where the gradient is not finite nothing is updated. Raises `RunStoppedError` where that happens again and again.
        """
        settings = self.settings
        rate = learning_rate(
            settings.learning_rate, settings.lr_scheduler, settings.lr_warmup_steps, self.step, self.steps
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        noise = torch.Generator().manual_seed(settings.seed * SEED_OF_STEP + self.step)
        self.vae.train()
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        for part in pictures:
            terms = self._terms(part.to(self.device, memory_format=torch.channels_last), noise)
            self.scaler.scale(terms["loss"] / len(pictures)).backward()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + float(term.detach()) / len(pictures)
        self.scaler.unscale_(self.optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(self.vae.parameters(), settings.max_grad_norm))
        self._update(np.isfinite(norm))
        return {**sums, "lr": rate, "grad_norm": norm}

    def _terms(self, images: Tensor, noise: torch.Generator) -> dict[str, Tensor]:
        dtype = DTYPES[self.settings.mixed_precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            posterior = self.vae.encode(images).latent_dist
            reconstruction = self.vae.decode(posterior.sample(noise)).sample
        return self.loss(reconstruction, images, posterior)

    def _update(self, finite: bool) -> None:
        if finite:
            self.skipped_now = 0
            self.scaler.step(self.optimizer)
            if self.ema is not None:
                self.ema.step(self.vae.parameters())
        else:
            self.skipped, self.skipped_now = self.skipped + 1, self.skipped_now + 1
            if self.skipped_now >= MOST_SKIPPED:
                raise RunStoppedError(
                    f"the gradient was not finite in {MOST_SKIPPED} updates in a row, up to step {self.step}; start anew in "
                    "another output_dir with a smaller learning_rate, or with mixed_precision bf16 or no"
                )
        self.scaler.update()

    def _evaluate(self) -> Reconstruction:
        """Reconstruct held-out recordings, by the running mean of the weights where there is one, and keep the best model."""
        self.vae.eval()
        if self.ema is not None:
            self.ema.store(self.vae.parameters())
            self.ema.copy_to(self.vae.parameters())
        settings = self.settings
        found = reconstruction_quality(
            self.vae, self.held_out, settings.batch_size, settings.eval_images, settings.num_workers
        )
        if not self.best or found.psnr > self.best["psnr"]:
            # a deep copy: the tensors of a state_dict are those that the next update changes
            model = copy.deepcopy(self.vae.state_dict())
            self.best = {"psnr": found.psnr, "ssim": found.ssim, "step": self.step, "model": dict(model)}
        if self.ema is not None:
            self.ema.restore(self.vae.parameters())
        return found

    def _write_model(self) -> dict[str, Any]:
        """Write the best model with its figures over all held-out recordings, and the spread of its latents."""
        settings, best = self.settings, self.best
        vae = self.vae.eval()
        vae.load_state_dict(best["model"])
        size, workers = settings.batch_size, settings.num_workers
        quality = reconstruction_quality(vae, self.held_out, size, workers=workers)
        plain = SpectrogramDataset(self.training.items, settings.resolution)  # not augmented
        index = read_index(Path(settings.data_dir))
        record = {
            **latent_statistics(vae, plain, size, STATISTICS_PICTURES, workers),
            "psnr": quality.psnr,
            "ssim": quality.ssim,
            "resolution": settings.resolution,
            "num_users": settings.num_users,
            "latent_channels": settings.latent_channels,
            "simulated": None if index is None else index["simulated"],
            "held_out": settings.held_out,
            "split_seed": SPLIT_SEED,
            "pictures": {"training": len(self.training), "held_out": len(self.held_out)},
            "best_step": best["step"],
            "steps": self.step,
            "skipped": self.skipped,
            "settings": asdict(settings),
            "versions": {"relatent": VERSION, "torch": torch.__version__, "diffusers": diffusers.__version__},
        }
        save_vae(vae, record, self.folder)
        return record


def train_vae(settings: VAESettings, progress: Progress = print) -> dict[str, Any]:
    """Train a VAE, or go on with a training that was stopped. Returns the record that is in `vae_training.json`.

    Writes `vae/`, in diffusers' layout, and `vae_training.json` to `settings.output_dir`, beside a checkpoint and TensorBoard's
    logs. Raises `UsageError` and `SpectrogramError` before any work, `RunStoppedError` where the training diverges.
    """
    return VAETrainer(settings, progress).run()


def pictures_digest(items: list[Spectrogram]) -> str:
    """Changes with the set of pictures and what is known of them, wherever their folder is."""
    known = [f"{item.user} {item.recording} {item.time} {item.path.name}" for item in items]
    return hashlib.sha256("\n".join(known).encode("utf-8", "surrogateescape")).hexdigest()


def _terms(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
