"""The training of the VAE. It can be killed at any moment: started again, it goes on from its last checkpoint.

On a CPU it then ends with the weights of a training that was not disturbed: the order of the pictures, their augmentation and
the noise of the posterior depend on seed, epoch and step alone.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ....engine.errors import UsageError
from ....engine.version import VERSION
from ..data.dataset import Augmentation, SpectrogramDataset
from ..data.spectrogram import Spectrogram
from ..data.spectrogram_folder import read_index, read_spectrograms
from ..data.split import split_by_recording
from ..training.acceleration import make_accelerator
from ..training.checkpoint import load_own_checkpoint, save_checkpoint
from ..training.optimization import KEYS, Optimization
from ..training.pace import Pace
from ..training.run_log import RunLog
from ..training.schedule import learning_rate
from .evaluation import Reconstruction, latent_statistics, reconstruction_quality
from .losses import VAELoss
from .model import VAEModel, build_vae, remove_partial, save_vae
from .settings import VAESettings

NAME, LOGS = "vae_checkpoint.pt", "vae_logs"
STATE = ("best", "epoch", "batch", "step")
SPLIT_SEED = 0  # not the training's: what one seed trains on must not be what another is judged on
SEED_OF_STEP = 1_000_003  # seeds of different steps must differ, also those of neighbouring `seed`
STATISTICS_PICTURES = 4096  # over which the latents' spread is measured, at most
Progress = Callable[[str], None]


class Reconstruct(nn.Module):
    """A VAE as it is trained. A module, so that autocast and several processes see one forward."""

    def __init__(self, vae: VAEModel) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Any]:
        """The reconstructions and the posterior. images: (B, 3, R, R) in [−1, 1]. noise: (B, C, h, w), of the posterior's sample."""
        posterior = self.vae.encode(images).latent_dist
        return self.vae.decode(posterior.mean + posterior.std * noise).sample, posterior


class VAETrainer:
    """One training. progress: gets a line for every epoch, and one every ten seconds."""

    def __init__(self, settings: VAESettings, progress: Progress = print) -> None:
        """Read the data, and go on from the folder's checkpoint where there is one. Raises `UsageError` and `SpectrogramError`."""
        self.settings = settings
        self.accelerator = make_accelerator(settings.device, settings.mixed_precision)
        self.device, self.main = self.accelerator.device, self.accelerator.is_main_process
        self.progress: Progress = progress if self.main else lambda line: None
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
        ema = EMAModel(self.vae.parameters(), decay=settings.ema_decay) if settings.use_ema else None
        self.optimization = Optimization(self.accelerator, Reconstruct(self.vae), settings, self.rows, ema)
        self.epoch, self.batch, self.step = 0, 0, 0
        self.best: dict[str, Any] = {}  # psnr, ssim, step and the weights, once there are some
        if self.main:
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
        log = RunLog(self.folder / LOGS, self.step, self.main)
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
        keys = KEYS | {"model", *STATE}
        path, settings = self.folder / NAME, self.settings.decisive()
        content = load_own_checkpoint(path, self.device, keys, settings, self.data, "pictures")
        if content is None:
            return
        self.vae.load_state_dict(content["model"])
        self.optimization.go_on(content)
        for name in STATE:
            setattr(self, name, content[name])
        self.progress(f"going on at step {self.step}, epoch {self.epoch}")

    def _save(self, log: RunLog) -> None:
        if not self.main:
            return
        log.flush()
        content = {"settings": self.settings.decisive(), "data": self.data, "model": self.vae.state_dict()}
        content |= self.optimization.state() | {name: getattr(self, name) for name in STATE}
        save_checkpoint(self.folder / NAME, content)

    def _train_epoch(self, log: RunLog) -> None:
        """The updates of an epoch from `self.batch` on, or as many as are left of all; then the evaluation."""
        settings, pace = self.settings, Pace(self.step)
        for pictures in self._updates():
            values = self._train_step(pictures)
            if self.step % settings.log_every == 0:
                log.scalars({f"train/{name}": value for name, value in values.items()}, self.step)
            self.step, self.batch = self.step + 1, self.batch + 1
            if (seconds := pace.due(self.step)) is not None:
                self.progress(
                    f"step {self.step}/{self.steps}, epoch {self.epoch}: {_terms(values)}, {seconds:.2f} s a step"
                )
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
        """This process's pictures of each update of the epoch, in its own random order, from update number `self.batch` on.

        Each is a list of tensors (B, 3, R, R), B being batch_size at most. What is left over of the epoch is left out.
        """
        settings = self.settings
        self.training.set_epoch(self.epoch)
        order = np.random.default_rng((settings.seed, self.epoch)).permutation(len(self.training))
        used = order[self.batch * self.rows : self.updates_per_epoch * self.rows].reshape(-1, self.rows)
        size, own = settings.batch_size, self.optimization.own
        batches = [row[start : start + size].tolist() for row in used[:, own] for start in range(0, len(row), size)]
        loader = DataLoader(
            self.training, batch_sampler=batches, num_workers=settings.num_workers, generator=torch.Generator()
        )
        pictures: list[Tensor] = []
        for batch in loader:
            pictures.append(batch["image"])
            if sum(map(len, pictures)) == own.stop - own.start:
                yield pictures
                pictures = []

    def _train_step(self, pictures: list[Tensor]) -> dict[str, float]:
        """One update, see `Optimization.update`: of the loss's terms."""
        settings = self.settings
        side = settings.resolution // settings.downscale_factor
        generator = torch.Generator().manual_seed(settings.seed * SEED_OF_STEP + self.step)
        noise = torch.randn((self.rows, settings.latent_channels, side, side), generator=generator)
        own = iter(noise[self.optimization.own].split([len(part) for part in pictures]))

        def terms(part: Tensor) -> dict[str, Tensor]:
            images = part.to(self.device, memory_format=torch.channels_last)
            reconstruction, posterior = self.optimization.model(images, next(own).to(self.device))
            return self.loss(reconstruction, images, posterior)

        rate = learning_rate(
            settings.learning_rate, settings.lr_scheduler, settings.lr_warmup_steps, self.step, self.steps
        )
        return self.optimization.update(pictures, terms, rate, self.step)

    def _evaluate(self) -> Reconstruction:
        """Reconstruct held-out recordings, by the running mean of the weights where there is one, and keep the best model."""
        self.vae.eval()
        settings = self.settings
        with self.optimization.averaged():
            found = reconstruction_quality(
                self.vae, self.held_out, settings.batch_size, settings.eval_images, settings.num_workers
            )
            if not self.best or found.psnr > self.best["psnr"]:
                # a deep copy: the tensors of a state_dict are those that the next update changes
                model = copy.deepcopy(self.vae.state_dict())
                self.best = {"psnr": found.psnr, "ssim": found.ssim, "step": self.step, "model": dict(model)}
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
            "skipped": self.optimization.skipped,
            "settings": asdict(settings),
            "versions": {"relatent": VERSION, "torch": torch.__version__, "diffusers": diffusers.__version__},
        }
        if self.main:
            save_vae(vae, record, self.folder)
        self.accelerator.wait_for_everyone()
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
