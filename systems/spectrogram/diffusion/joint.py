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
from torch import Tensor, nn

from ....engine.errors import UsageError
from ..data.dataset import Augmentation, SpectrogramDataset
from ..data.spectrogram import Spectrogram
from ..training.acceleration import make_accelerator
from ..training.checkpoint import load_own_checkpoint, save_checkpoint
from ..training.optimization import KEYS, Optimization
from ..vae.evaluation import reconstruction_quality
from ..vae.losses import VAELoss
from ..vae.model import load_vae, save_vae
from ..vae.settings import VAESettings
from ..vae.training import Reconstruct
from .draws import Draws, generator_of, training_draws, validation_draws
from .model_folder import DiffusionModel, load_model, save_model
from .noise_loss import NoiseLoss

JOINT, NAME = "joint", "joint_checkpoint.pt"


@dataclass(frozen=True)
class JointSettings:
    """The phase is short and its rate low: it adapts what is trained already."""

    max_steps: int = 500  # updates
    batch_size: int = 8  # pictures per update
    learning_rate: float = 1e-5  # of AdamW
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
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


class _Both(nn.Module):
    """VAE and network as they are trained: one forward, so that several processes can share it."""

    def __init__(self, reconstruct: Reconstruct, noise_loss: NoiseLoss, scale: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.reconstruct, self.noise_loss, self.scale = reconstruct, noise_loss, scale

    def forward(self, pictures: Tensor, noise: Tensor, users: Tensor, draws: Draws) -> tuple[Tensor, Any, Tensor]:
        """Reconstructions, posterior, and the noise's loss, which does not reach the encoder."""
        reconstruction, posterior = self.reconstruct(pictures, noise)
        return reconstruction, posterior, self.noise_loss(self.scale(posterior.mode().detach()), users, draws)


class _Joint:
    def __init__(
        self,
        model_dir: Path,
        training: Sequence[Spectrogram],
        held_out: Sequence[Spectrogram],
        settings: JointSettings,
        progress: Callable[[str], None],
    ) -> None:
        self.settings, self.folder = settings, model_dir / JOINT
        self.accelerator = make_accelerator(settings.device)
        self.device, self.main = self.accelerator.device, self.accelerator.is_main_process
        self.progress = progress if self.main else lambda line: None
        self.model: DiffusionModel = load_model(model_dir)
        if self.model.vae_folder is None:
            raise UsageError(f"{model_dir} was trained on latents without a VAE: there is nothing to train jointly")
        self.vae, self.vae_record = load_vae(self.model.vae_folder)
        self.vae.to(self.device)
        self.network = self.model.network.to(self.device)
        side = int(self.vae_record["resolution"])
        self.training = SpectrogramDataset(training, side, Augmentation(), settings.seed)
        self.held_out = SpectrogramDataset(held_out, side)
        self.users = torch.tensor([item.user for item in training])
        self.vae_loss = VAELoss(VAESettings("", "", resolution=side, use_lpips=False), self.device)
        self.data, self.step = self._digest(training), 0
        self.noise_loss = NoiseLoss(self.network)
        both = _Both(Reconstruct(self.vae), self.noise_loss, self.model.scaling.scale)
        self.optimization = Optimization(self.accelerator, both, settings, settings.batch_size)
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
                reconstruction, noise = values["mse"], values["noise"]
                self.progress(
                    f"joint step {self.step}/{settings.max_steps}: reconstruction {reconstruction:.5f}, noise {noise:.4f}"
                )
        after = self._measure()
        joint = {"before": self.before, "after": after, "settings": asdict(settings)}
        record = self.model.record | {"vae": "vae", "validation_loss": after["validation_loss"], "joint": joint}
        if self.main:
            self._write(record, after)
        self.accelerator.wait_for_everyone()
        return record

    def _write(self, record: dict[str, Any], after: dict[str, float]) -> None:
        save_vae(self.vae.eval(), self.vae_record | {"psnr": after["psnr"], "ssim": after["ssim"]}, self.folder)
        save_model(self.folder, self.network, {name: value for name, value in record.items() if name != "schema"})

    def _train_step(self) -> dict[str, float]:
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
        shape = (settings.batch_size, *self.model.record["latent_shape"])
        noise = torch.randn(shape, generator=generator_of(settings.seed, self.step, 1))[self.optimization.own]

        def terms(part: Draws) -> dict[str, Tensor]:
            rows = part.indices.tolist()
            pictures = torch.stack([self.training[index]["image"] for index in rows]).to(self.device)
            users = self.users[part.indices]
            found = self.optimization.model(pictures, noise.to(self.device), users, part)
            losses = self.vae_loss(found[0], pictures, found[1])
            return {**losses, "noise": found[2], "loss": losses["loss"] + settings.diffusion_weight * found[2]}

        return self.optimization.update([draws.rows(self.optimization.own)], terms, settings.learning_rate, self.step)

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
            float(self.noise_loss(latents[part.indices.to(self.device)], users[part.indices], part)) * len(part)
            for part in draws.parts(size)
        ]
        return {"psnr": quality.psnr, "ssim": quality.ssim, "validation_loss": sum(losses) / len(draws.indices)}

    def _go_on(self) -> None:
        keys = KEYS | {"network", "vae", "step", "before"}
        content = load_own_checkpoint(
            self.folder / NAME, self.device, keys, asdict(self.settings), self.data, "spectrograms or weights"
        )
        if content is None:
            return
        self.network.load_state_dict(content["network"])
        self.vae.load_state_dict(content["vae"])
        self.optimization.go_on(content)
        self.step, self.before = content["step"], content["before"]
        self.progress(f"going on with the joint phase at step {self.step}")

    def _save(self) -> None:
        if not self.main:
            return
        parts = {"network": self.network.state_dict(), "vae": self.vae.state_dict(), **self.optimization.state()}
        rest = {"settings": asdict(self.settings), "data": self.data, "step": self.step, "before": self.before}
        save_checkpoint(self.folder / NAME, parts | rest)

    def _digest(self, training: Sequence[Spectrogram]) -> str:
        """Of the spectrograms, and of the weights that the phase starts from."""
        rows = [[item.user, item.recording, item.time, item.path.name] for item in training]
        found = hashlib.sha256(json.dumps(rows).encode("utf-8", "surrogateescape"))
        for parameter in (*self.vae.parameters(), *self.network.parameters()):
            found.update(np.ascontiguousarray(parameter.detach().cpu().numpy()).tobytes())
        return found.hexdigest()
