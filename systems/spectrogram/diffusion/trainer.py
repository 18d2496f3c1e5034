"""The training of the diffusion. It can be killed at any moment: started again, it goes on from its last checkpoint.

On a CPU it then ends with the weights of a training that was not disturbed: all that is random depends on seed and step alone.
A plain loop with torch's autocast on one device; diffusers has the networks, the schedules and the moving average.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from ....engine.errors import RunStoppedError, UsageError
from ....engine.runtime.device import resolve_device
from ....engine.version import VERSION
from ..vae.model import VAE, load_vae
from ..vae.run_log import RunLog
from ..vae.schedule import learning_rate
from .checkpoint import NAME, load_checkpoint, save_checkpoint
from .draws import Draws, training_draws, validation_draws
from .latent_scaling import LatentScaling
from .latent_set import LatentSet
from .model_folder import BEST, copy_vae, remove_partial, save_model
from .network import ConditionalUNet, build_network, noise_scheduler, prediction_target
from .preview import sample_rows, save_grid
from .settings import DiffusionSettings

LOGS, SAMPLES = "logs", "samples"
MOST_SKIPPED = 20  # updates in a row
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SECONDS_BETWEEN_LINES = 10.0
Progress = Callable[[str], None]
OnStep = Callable[[int, int, float], None]  # updates done, in all, the last loss


class DiffusionTrainer:
    """One training.

    training, validation: what is trained on and what is held out; both are scaled by the statistics of the first. output_dir: the
    model, the checkpoint, the logs and the grids. vae_dir: of `train-vae`; copied beside the model, and decodes the grids. simulated: of
    the spectrograms; None: not known. progress: gets a line every ten seconds. on_step: is called after every update.
    """

    def __init__(
        self,
        settings: DiffusionSettings,
        training: LatentSet,
        validation: LatentSet,
        output_dir: str | Path,
        vae_dir: str | Path | None = None,
        simulated: bool | None = None,
        progress: Progress = print,
        on_step: OnStep | None = None,
    ) -> None:
        """Go on from the folder's checkpoint where there is one. Raises `UsageError` for data that does not fit, or of another run."""
        self.settings, self.progress, self.on_step = settings, progress, on_step
        self.folder, self.simulated = Path(output_dir), simulated
        self.device = resolve_device(settings.device)
        if settings.mixed_precision == "fp16" and self.device.type == "cpu":
            raise UsageError("mixed_precision fp16 needs a GPU; give bf16 or no")
        _check_users(training, validation, settings.num_users)
        self.training, self.validation = training, validation
        self.scaling = LatentScaling.of(training.latents, settings.subtract_mean)
        self.latents = self.scaling.scale(training.latents).to(self.device)
        self.held_out = self.scaling.scale(validation.latents).to(self.device)
        self.network = build_network(settings, training.shape).to(self.device)
        self.parameters = list(self.network.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.mixed_precision == "fp16")
        self.ema = None
        if settings.use_ema:
            self.ema = EMAModel(self.parameters, decay=settings.ema_decay, use_ema_warmup=True, power=3 / 4)
        self.noise = noise_scheduler()
        self.step, self.skipped, self.skipped_now = 0, 0, 0
        self.validation_loss: float | None = None  # the last, and the least with its step
        self.best: dict[str, float] = {}
        self.vae: Any = None
        self.vae_dir = vae_dir
        if vae_dir is not None:
            self.vae = load_vae(vae_dir)[0].to(self.device)
        self.data = training.digest()
        remove_partial(self.folder)
        self._go_on()

    def run(self) -> dict[str, Any]:
        """Train to the end. Returns the record that is in `model.json`. Raises `RunStoppedError` where the training diverges."""
        settings = self.settings
        if self.vae_dir is not None:
            copy_vae(self.vae_dir, self.folder)
        log = RunLog(self.folder / LOGS, self.step)
        try:
            shown, since = time.monotonic(), self.step
            while self.step < settings.max_steps:
                values = self._train_step()
                self.step += 1
                if self.on_step is not None:
                    self.on_step(self.step, settings.max_steps, values["loss"])
                if self.step % settings.log_every == 0:
                    log.scalars({f"train/{name}": value for name, value in values.items()}, self.step)
                if (elapsed := time.monotonic() - shown) >= SECONDS_BETWEEN_LINES:
                    self._tell(values, elapsed / (self.step - since))
                    shown, since = time.monotonic(), self.step
                last = self.step == settings.max_steps
                if last or self.step % settings.eval_every == 0:
                    self._evaluate(log)
                if last or self.step % settings.save_every == 0:
                    self._save(log)
        finally:
            log.close()
        record = self._record()
        save_model(self.folder, self.network, record, self._averaged_copy())
        return record

    def _go_on(self) -> None:
        path = self.folder / NAME
        if not path.exists():
            return
        content = load_checkpoint(path, self.device)
        differing = [k for k, v in self.settings.decisive().items() if content["settings"].get(k, v) != v]
        if differing or content["data"] != self.data:
            what = f"of other settings ({', '.join(differing)})" if differing else "of other latents"
            raise UsageError(f"{path} is {what}; give the same ones, or another output_dir")
        self.network.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(content["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(content["ema"])
        for name in ("step", "skipped", "validation_loss", "best"):
            setattr(self, name, content[name])
        self.progress(f"going on at step {self.step}")

    def _save(self, log: RunLog) -> None:
        log.flush()
        content = {
            "settings": self.settings.decisive(),
            "data": self.data,
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else {},
            **{name: getattr(self, name) for name in ("step", "skipped", "validation_loss", "best")},
        }
        save_checkpoint(self.folder / NAME, content)

    def _train_step(self) -> dict[str, float]:
        """One update. Returns the loss, the learning rate and the norm of the gradient; where that is not finite, nothing is updated."""
        settings = self.settings
        rate = learning_rate(
            settings.learning_rate, settings.lr_scheduler, settings.lr_warmup_steps, self.step, settings.max_steps
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        draws = training_draws(
            len(self.training),
            self.training.shape,
            settings.update_size,
            settings.seed,
            self.step,
            settings.condition_dropout,
        )
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in draws.parts(settings.batch_size):
            loss = self._loss(self.latents, self.training.users, part) / settings.gradient_accumulation_steps
            self.scaler.scale(loss).backward()
            total += float(loss.detach())
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, settings.max_grad_norm)
        self._update(bool(norm.isfinite()))
        return {"loss": total, "lr": rate, "grad_norm": float(norm)}

    def _loss(self, latents: Tensor, users: Tensor, draws: Draws) -> Tensor:
        """Mean squared error of the network's prediction. latents: scaled, of which `draws` takes some."""
        device = self.device
        noise, timesteps = draws.noise.to(device), draws.timesteps.to(device)
        scaled = latents[draws.indices.to(device)]
        noisy = self.noise.add_noise(scaled, noise, timesteps)  # type: ignore[arg-type]  # it takes any integers
        target = prediction_target(self.noise, self.settings.prediction_type, scaled, noise, timesteps)
        dtype = DTYPES[self.settings.mixed_precision]
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            predicted = self.network(noisy, timesteps, users[draws.indices].to(device), draws.dropped.to(device))
        return torch.nn.functional.mse_loss(predicted.float(), target)

    def _update(self, finite: bool) -> None:
        if finite:
            self.skipped_now = 0
            self.scaler.step(self.optimizer)
            if self.ema is not None:
                self.ema.step(self.parameters)
        else:
            self.skipped, self.skipped_now = self.skipped + 1, self.skipped_now + 1
            if self.skipped_now >= MOST_SKIPPED:
                raise RunStoppedError(
                    f"the gradient was not finite in {MOST_SKIPPED} updates in a row, up to step {self.step}; start anew in "
                    "another output_dir with a smaller learning_rate, or with mixed_precision bf16 or no"
                )
        self.scaler.update()

    def _evaluate(self, log: RunLog) -> None:
        """Validation loss, a grid of samples, and the best model so far, all with the weights that are sampled from."""
        settings = self.settings
        with self._averaged():
            loss = self._validate()
            if not math.isfinite(loss):
                raise RunStoppedError(
                    f"the validation loss is not finite at step {self.step}; start anew in another output_dir with a smaller "
                    "learning_rate, or with mixed_precision no"
                )
            self.validation_loss = loss
            rows = sample_rows(self.network, self.scaling, settings.condition_scale, self._decoder())
            if not self.best or self.validation_loss < self.best["validation_loss"]:
                # to a file at once: tensors that are kept by reference change with the next update
                self.best = {"validation_loss": self.validation_loss, "step": self.step}
                save_model(self.folder / BEST, self.network, self._record(Path("..")))
        log.scalars({"held_out/loss": self.validation_loss}, self.step)
        log.grid("samples", rows, self.step)
        save_grid(rows, self.folder / SAMPLES / f"step_{self.step:07d}.png")
        self.progress(f"step {self.step}: loss {self.validation_loss:.4f} on held-out recordings")

    @torch.no_grad()
    def _validate(self) -> float:
        self.network.eval()
        draws = validation_draws(len(self.validation), self.validation.shape)
        losses = [
            float(self._loss(self.held_out, self.validation.users, part)) * len(part.indices)
            for part in draws.parts(self.settings.batch_size)
        ]
        return sum(losses) / len(draws.indices)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The network has the averaged weights inside of the block, where there are some."""
        if self.ema is None:
            yield
            return
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        try:
            yield
        finally:
            self.ema.restore(self.parameters)

    def _averaged_copy(self) -> ConditionalUNet | None:
        if self.ema is None:
            return None
        with self._averaged():
            return deepcopy(self.network)

    def _decoder(self) -> Callable[[Tensor], Tensor] | None:
        vae = self.vae
        return None if vae is None else lambda latents: vae.decode(latents).sample.detach()

    def _record(self, root: Path = Path()) -> dict[str, Any]:
        """What `model.json` says. root: of the training's folder, from that of the model."""
        return {
            "settings": asdict(self.settings),
            "latent_shape": list(self.training.shape),
            "scaling": self.scaling.record(),
            "vae": None if self.vae_dir is None else (root / VAE).as_posix(),
            "simulated": self.simulated,
            "steps": self.step,
            "skipped": self.skipped,
            "validation_loss": self.validation_loss,
            "best": self.best,
            "latents": {"training": len(self.training), "held_out": len(self.validation)},
            "parameters": sum(parameter.numel() for parameter in self.parameters),
            "versions": {"relatent": VERSION, "torch": torch.__version__, "diffusers": diffusers.__version__},
        }

    def _tell(self, values: dict[str, float], seconds: float) -> None:
        self.progress(
            f"step {self.step}/{self.settings.max_steps}: loss {values['loss']:.4f}, lr {values['lr']:.2g}, "
            f"{seconds:.2f} s a step"
        )


def train_diffusion(
    settings: DiffusionSettings, training: LatentSet, validation: LatentSet, output_dir: str | Path, **options: Any
) -> dict[str, Any]:
    """Train a model, or go on with a training that was stopped. options: of `DiffusionTrainer`.

    Returns the record that is in `model.json`. Raises `UsageError` before any work, `RunStoppedError` where the training diverges.
    """
    return DiffusionTrainer(settings, training, validation, output_dir, **options).run()


def _check_users(training: LatentSet, validation: LatentSet, num_users: int) -> None:
    """Raise `UsageError` where a user would stay untrained, or has no embedding."""
    there = set(training.users.tolist())
    if missing := sorted(set(range(num_users)) - there):
        raise UsageError(
            f"{len(missing)} of {num_users} users have no latent to train on, such as user {missing[0]} (ID_{missing[0] + 1}); "
            "split by recording, not by user, or give the num_users there are"
        )
    if unknown := sorted((there | set(validation.users.tolist())) - set(range(num_users))):
        raise UsageError(
            f"user {unknown[-1]} (ID_{unknown[-1] + 1}) is none of {num_users} users; give a higher num_users"
        )
    if training.shape != validation.shape:
        raise UsageError(f"latents to train on are {training.shape}, those held out {validation.shape}; give one shape")
