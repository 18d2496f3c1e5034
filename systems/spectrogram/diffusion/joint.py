"""A third phase: VAE and network trained on together, from a model and its VAE.

The VAE learns from reconstruction alone, the network from the latents as they move. The noise's loss does not reach the encoder: it
would fall fastest where the latents say least of the picture (Leng et al. 2025, arXiv 2504.10483).
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....engine.errors import UsageError
from ....engine.runtime.device import resolve_device
from ..data.dataset import Augmentation, SpectrogramDataset
from ..data.spectrogram import Spectrogram
from ..vae.evaluation import reconstruction_quality
from ..vae.losses import VAELoss
from ..vae.model import load_vae, save_vae
from ..vae.settings import VAESettings
from .checkpoint import load_checkpoint, save_checkpoint
from .draws import Draws, generator_of, training_draws, validation_draws
from .model_folder import DiffusionModel, load_model, save_model
from .network import noise_scheduler, prediction_target

JOINT, NAME = "joint", "joint_checkpoint.pt"
KEYS = {"settings", "data", "network", "vae", "optimizer", "step", "before"}


@dataclass(frozen=True)
class JointSettings:
    """The phase is short and its rate low: it adapts what is trained already."""

    max_steps: int = 500  # updates
    batch_size: int = 8  # pictures per update
    learning_rate: float = 1e-5
    diffusion_weight: float = 1.0  # of the noise's loss, beside the VAE's own
    seed: int = 0
    device: str = "auto"
    save_every: int = 100  # updates between checkpoints

    def __post_init__(self) -> None:
        if min(self.max_steps, self.batch_size, self.save_every) < 1 or not 0.0 < self.learning_rate < 1.0:
            raise UsageError(f"expected numbers from 1 on and a learning_rate between 0 and 1, found {self}")


def train_jointly(
    model_dir: str | Path,
    training: Sequence[Spectrogram],
    held_out: Sequence[Spectrogram],
    settings: JointSettings = JointSettings(),
    progress: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train model and VAE on, and write both to `model_dir`/joint, a model's folder; the model itself stays as it is.

    Starts from the averaged weights where there are some. It can be killed and started again. Returns the record of the new model, whose
    `joint` has PSNR (dB) and validation loss on held-out spectrograms, `before` and `after`: whether it was worth it. The scaling of the
    latents stays. Raises `UsageError` for a model without a VAE.
    """
    return _Joint(Path(model_dir), training, held_out, settings, progress).run()


class _Joint:
    def __init__(
        self,
        model_dir: Path,
        training: Sequence[Spectrogram],
        held_out: Sequence[Spectrogram],
        settings: JointSettings,
        progress: Callable[[str], None],
    ) -> None:
        self.settings, self.progress, self.folder = settings, progress, model_dir / JOINT
        self.model: DiffusionModel = load_model(model_dir)
        if self.model.vae_folder is None:
            raise UsageError(f"{model_dir} was trained on latents without a VAE: there is nothing to train jointly")
        self.device = resolve_device(settings.device)
        self.vae, self.vae_record = load_vae(self.model.vae_folder)
        self.vae.to(self.device)
        self.network = self.model.network.to(self.device)
        side = int(self.vae_record["resolution"])
        self.training = SpectrogramDataset(training, side, Augmentation(), settings.seed)
        self.held_out = SpectrogramDataset(held_out, side)
        self.users = torch.tensor([item.user for item in training])
        self.vae_loss = VAELoss(VAESettings("", "", resolution=side, use_lpips=False), self.device)
        self.parameters = [*self.vae.parameters(), *self.network.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=settings.learning_rate)
        self.noise, self.step = noise_scheduler(), 0
        self.data = self._digest(training)
        self.before: dict[str, float] = {}
        self._go_on()

    def run(self) -> dict[str, Any]:
        settings = self.settings
        if not self.before:
            self.before = self._measure()
        while self.step < settings.max_steps:
            values = self._train_step()
            self.step += 1
            if self.step == settings.max_steps or self.step % settings.save_every == 0:
                self._save()
                self.progress(f"joint step {self.step}/{settings.max_steps}: {values}")
        after = self._measure()
        save_vae(self.vae.eval(), self.vae_record | {"psnr": after["psnr"], "ssim": after["ssim"]}, self.folder)
        joint = {"before": self.before, "after": after, "settings": asdict(settings)}
        record = self.model.record | {"vae": "vae", "validation_loss": after["validation_loss"], "joint": joint}
        save_model(self.folder, self.network, {name: value for name, value in record.items() if name != "schema"})
        return record

    def _train_step(self) -> str:
        settings = self.settings
        draws = training_draws(
            len(self.users),
            self.model.record["latent_shape"],
            settings.batch_size,
            settings.seed,
            self.step,
            self.model.record["settings"]["condition_dropout"],
        )
        self.training.set_epoch(self.step)
        pictures = torch.stack([self.training[index]["image"] for index in draws.indices.tolist()]).to(self.device)
        self.vae.train()
        self.network.train()
        posterior = self.vae.encode(pictures).latent_dist
        latents = posterior.sample(generator_of(settings.seed, self.step, 1))
        terms = self.vae_loss(self.vae.decode(latents).sample, pictures, posterior)
        error = self._noise_error(self.model.scaling.scale(posterior.mode().detach()), self.users[draws.indices], draws)
        self.optimizer.zero_grad(set_to_none=True)
        (terms["loss"] + settings.diffusion_weight * error).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        if norm.isfinite():
            self.optimizer.step()
        return f"reconstruction {float(terms['mse'].detach()):.5f}, noise {float(error.detach()):.4f}"

    def _noise_error(self, scaled: Tensor, users: Tensor, draws: Draws) -> Tensor:
        """scaled, users: of the latents that the draws are for, in their order."""
        noise, timesteps = draws.noise.to(self.device), draws.timesteps.to(self.device)
        noisy = self.noise.add_noise(scaled, noise, timesteps)  # type: ignore[arg-type]  # it takes any integers
        predicted = self.network(noisy, timesteps, users.to(self.device), draws.dropped.to(self.device))
        target = prediction_target(self.noise, self.network.prediction_type, scaled, noise, timesteps)
        return torch.nn.functional.mse_loss(predicted, target)

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        self.vae.eval()
        self.network.eval()
        size = self.settings.batch_size
        quality = reconstruction_quality(self.vae, self.held_out, size)
        found = []
        for start in range(0, len(self.held_out), size):
            rows = range(start, min(start + size, len(self.held_out)))
            pictures = torch.stack([self.held_out[row]["image"] for row in rows]).to(self.device)
            found.append(self.model.scaling.scale(self.vae.encode(pictures).latent_dist.mode()))
        latents, users = torch.cat(found), torch.tensor([item.user for item in self.held_out.items])
        draws = validation_draws(len(latents), latents.shape[1:])
        losses = [
            float(self._noise_error(latents[part.indices.to(self.device)], users[part.indices], part))
            * len(part.indices)
            for part in draws.parts(size)
        ]
        return {"psnr": quality.psnr, "ssim": quality.ssim, "validation_loss": sum(losses) / len(draws.indices)}

    def _go_on(self) -> None:
        path = self.folder / NAME
        if not path.exists():
            return
        content = load_checkpoint(path, self.device, KEYS)
        if content["settings"] != asdict(self.settings) or content["data"] != self.data:
            raise UsageError(
                f"{path} is of other settings, spectrograms or weights; remove it to start this phase anew"
            )
        for one, name in ((self.network, "network"), (self.vae, "vae"), (self.optimizer, "optimizer")):
            one.load_state_dict(content[name])
        self.step, self.before = content["step"], content["before"]
        self.progress(f"going on with the joint phase at step {self.step}")

    def _save(self) -> None:
        parts = {name: getattr(self, name).state_dict() for name in ("network", "vae", "optimizer")}
        rest = {"settings": asdict(self.settings), "data": self.data, "step": self.step, "before": self.before}
        save_checkpoint(self.folder / NAME, parts | rest)

    def _digest(self, training: Sequence[Spectrogram]) -> str:
        """Of the spectrograms, and of the weights that the phase starts from."""
        rows = [[item.user, item.recording, item.time, item.path.name] for item in training]
        found = hashlib.sha256(json.dumps(rows).encode("utf-8", "surrogateescape"))
        for parameter in self.parameters:
            found.update(np.ascontiguousarray(parameter.detach().cpu().numpy()).tobytes())
        return found.hexdigest()
