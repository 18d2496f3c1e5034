"""The training of the diffusion. It can be killed at any moment: started again, it goes on from its last checkpoint.

On a CPU it then ends with the weights of a training that was not disturbed: all that is random depends on seed and step alone.
accelerate places it, mixes precisions and lets several processes share each update; diffusers has the networks, the schedules and
the moving average.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from ....engine.errors import RunStoppedError, UsageError
from ....engine.version import VERSION
from ..training.acceleration import make_accelerator
from ..training.checkpoint import load_own_checkpoint, save_checkpoint
from ..training.optimization import KEYS, Optimization
from ..training.pace import Pace
from ..training.run_log import RunLog
from ..training.schedule import learning_rate
from ..vae.model import VAE, load_vae
from .draws import Draws, training_draws, validation_draws
from .latent_scaling import LatentScaling
from .latent_set import LatentSet
from .model_folder import BEST, copy_vae, remove_partial, save_model
from .network import ConditionalUNet, build_network
from .noise_loss import NoiseLoss
from .preview import sample_rows, save_grid
from .settings import DiffusionSettings

NAME, LOGS, SAMPLES = "checkpoint.pt", "logs", "samples"
STATE = ("step", "validation_loss", "best")
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
        self.settings, self.folder, self.simulated = settings, Path(output_dir), simulated
        self.accelerator = make_accelerator(settings.device, settings.mixed_precision)
        self.device, self.main = self.accelerator.device, self.accelerator.is_main_process
        self.progress: Progress = progress if self.main else lambda line: None
        self.on_step = on_step if self.main else None
        _check_users(training, validation, settings.num_users)
        self.training, self.validation = training, validation
        self.scaling = LatentScaling.of(training.latents, settings.subtract_mean)
        self.latents = self.scaling.scale(training.latents).to(self.device)
        self.held_out = self.scaling.scale(validation.latents).to(self.device)
        self.network = build_network(settings, training.shape).to(self.device)
        self.parameters = list(self.network.parameters())
        ema = None
        if settings.use_ema:
            ema = EMAModel(self.parameters, decay=settings.ema_decay, use_ema_warmup=True, power=3 / 4)
        self.optimization = Optimization(self.accelerator, NoiseLoss(self.network), settings, settings.update_size, ema)
        self.step = 0
        self.validation_loss: float | None = None  # the last, and the least with its step
        self.best: dict[str, float] = {}
        self.vae: Any = None
        self.vae_dir = vae_dir
        if vae_dir is not None:
            self.vae = load_vae(vae_dir)[0].to(self.device)
        self.data = training.digest()
        if self.main:
            remove_partial(self.folder)
        self._go_on()

    def run(self) -> dict[str, Any]:
        """Train to the end. Returns the record that is in `model.json`. Raises `RunStoppedError` where the training diverges."""
        settings = self.settings
        if self.vae_dir is not None and self.main:
            copy_vae(self.vae_dir, self.folder)
        log, pace = RunLog(self.folder / LOGS, self.step, self.main), Pace(self.step)
        try:
            while self.step < settings.max_steps:
                values = self._train_step()
                self.step += 1
                if self.on_step is not None:
                    self.on_step(self.step, settings.max_steps, values["loss"])
                if self.step % settings.log_every == 0:
                    log.scalars({f"train/{name}": value for name, value in values.items()}, self.step)
                if (seconds := pace.due(self.step)) is not None:
                    self._tell(values, seconds)
                last = self.step == settings.max_steps
                if last or self.step % settings.eval_every == 0:
                    self._evaluate(log)
                if last or self.step % settings.save_every == 0:
                    self._save(log)
        finally:
            log.close()
        record = self._record()
        if self.main:
            save_model(self.folder, self.network, record, self._averaged_copy())
        self.accelerator.wait_for_everyone()  # a phase that follows reads the model
        return record

    def _go_on(self) -> None:
        keys = KEYS | {"model", *STATE}
        path, settings = self.folder / NAME, self.settings.decisive()
        content = load_own_checkpoint(path, self.device, keys, settings, self.data, "latents")
        if content is None:
            return
        self.network.load_state_dict(content["model"])
        self.optimization.go_on(content)
        for name in STATE:
            setattr(self, name, content[name])
        self.progress(f"going on at step {self.step}")

    def _save(self, log: RunLog) -> None:
        if not self.main:
            return
        log.flush()
        content = {"settings": self.settings.decisive(), "data": self.data, "model": self.network.state_dict()}
        content |= self.optimization.state() | {name: getattr(self, name) for name in STATE}
        save_checkpoint(self.folder / NAME, content)

    def _train_step(self) -> dict[str, float]:
        """One update. Returns the loss, the learning rate and the norm of the gradient; where that is not finite, nothing is updated."""
        settings, step = self.settings, self.step
        draws = training_draws(
            len(self.training),
            self.training.shape,
            settings.update_size,
            settings.seed,
            step,
            settings.condition_dropout,
        )
        parts = draws.rows(self.optimization.own).parts(settings.batch_size)
        rate = learning_rate(
            settings.learning_rate, settings.lr_scheduler, settings.lr_warmup_steps, step, settings.max_steps
        )
        return self.optimization.update(
            parts, lambda part: {"loss": self._loss(self.latents, self.training.users, part)}, rate, step
        )

    def _loss(self, latents: Tensor, users: Tensor, draws: Draws) -> Tensor:
        """See `NoiseLoss`. latents: scaled, of which `draws` takes some."""
        loss: Tensor = self.optimization.model(latents[draws.indices.to(self.device)], users[draws.indices], draws)
        return loss

    def _evaluate(self, log: RunLog) -> None:
        """Validation loss, a grid of samples, and the best model so far, all with the weights that are sampled from.

        Every process computes the loss, so that all stop together; the main one alone samples and writes.
        """
        with self.optimization.averaged():
            loss = self._validate()
            if not math.isfinite(loss):
                raise RunStoppedError(
                    f"the validation loss is not finite at step {self.step}; start anew in another output_dir with a smaller "
                    "learning_rate, or with mixed_precision no"
                )
            self.validation_loss = loss
            better = not self.best or loss < self.best["validation_loss"]
            if better:
                self.best = {"validation_loss": loss, "step": self.step}
            if not self.main:
                return
            rows = sample_rows(self.network, self.scaling, self.settings.condition_scale, self._decoder())
            if better:  # to a file at once: tensors that are kept by reference change with the next update
                save_model(self.folder / BEST, self.network, self._record(Path("..")))
        log.scalars({"held_out/loss": loss}, self.step)
        log.grid("samples", rows, self.step)
        save_grid(rows, self.folder / SAMPLES / f"step_{self.step:07d}.png")
        self.progress(f"step {self.step}: loss {loss:.4f} on held-out recordings")

    @torch.no_grad()
    def _validate(self) -> float:
        self.network.eval()
        draws = validation_draws(len(self.validation), self.validation.shape)
        losses = [
            float(self._loss(self.held_out, self.validation.users, part)) * len(part.indices)
            for part in draws.parts(self.settings.batch_size)
        ]
        return sum(losses) / len(draws.indices)

    def _averaged_copy(self) -> ConditionalUNet | None:
        if self.optimization.ema is None:
            return None
        with self.optimization.averaged():
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
            "skipped": self.optimization.skipped,
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
