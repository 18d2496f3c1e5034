"""The training of the classifier that guides: a phase of its own, behind that of the diffusion. It can be killed and started again."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ....engine.errors import UsageError
from ..diffusion.draws import Draws, training_draws, validation_draws
from ..diffusion.latent_scaling import LatentScaling
from ..diffusion.latent_set import LatentSet
from ..diffusion.model_folder import read_model_record
from ..diffusion.network import noise_scheduler
from ..training.acceleration import make_accelerator
from ..training.checkpoint import load_own_checkpoint, save_checkpoint
from ..training.optimization import KEYS, Optimization
from ..training.pace import Pace
from ..training.schedule import learning_rate
from .classifier import NoisyClassifier, build_classifier, save_classifier

NAME = "classifier_checkpoint.pt"
LITTLE_NOISE = 250  # timesteps below are those where a user can be told; of the accuracy that is reported


@dataclass(frozen=True)
class ClassifierSettings:
    """The training. Raises `UsageError` for values that make none."""

    max_steps: int = 2_000  # updates
    batch_size: int = 64  # latents per update
    learning_rate: float = 1e-3  # of AdamW; it falls along a cosine
    weight_decay: float = 0.05
    max_grad_norm: float = 1.0
    seed: int = 0
    device: str = "auto"
    save_every: int = 200  # updates between checkpoints

    def __post_init__(self) -> None:
        if min(self.max_steps, self.batch_size, self.save_every) < 1 or not 0.0 < self.learning_rate < 1.0:
            raise UsageError(f"expected numbers from 1 on and a learning_rate between 0 and 1, found {self}")

    def decisive(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to go on; the length is, because the rate follows it."""
        return {name: value for name, value in asdict(self).items() if name not in ("device", "save_every")}


class NoisyLogits(nn.Module):
    """Noises latents and classifies them."""

    def __init__(self, classifier: NoisyClassifier) -> None:
        super().__init__()
        self.classifier, self.scheduler = classifier, noise_scheduler()

    def forward(self, scaled: Tensor, draws: Draws) -> Tensor:
        """Logits (B, num_users). scaled: (B, C, h, w) fp32, the latents of the draws."""
        noise, timesteps = draws.noise.to(scaled.device), draws.timesteps.to(scaled.device)
        noisy = self.scheduler.add_noise(scaled, noise, timesteps)  # type: ignore[arg-type]  # it takes any integers
        logits: Tensor = self.classifier(noisy, timesteps)
        return logits


def train_guidance(
    model_dir: str | Path,
    training: LatentSet,
    validation: LatentSet,
    settings: ClassifierSettings = ClassifierSettings(),
    progress: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train the classifier of a diffusion model on the latents that the model was trained on, or go on with that.

    Writes `classifier.safetensors` and `classifier.json` to model_dir. Returns the record: `accuracy` on held-out latents over all steps of
    the noise, and `accuracy_little_noise` below step 250. Raises `UsageError` for a folder without a model, and for a checkpoint of
    other latents or settings.
    """
    folder, accelerator = Path(model_dir), make_accelerator(settings.device)
    model, main = read_model_record(folder), accelerator.is_main_process
    scaling = LatentScaling.from_record(model["scaling"])
    users: int = model["settings"]["num_users"]
    logits = NoisyLogits(build_classifier(training.shape[0], users, settings.seed).to(accelerator.device))
    optimization = Optimization(accelerator, logits, settings, settings.batch_size)
    latents = scaling.scale(training.latents).to(accelerator.device)
    step, data = 0, training.digest()
    content = load_own_checkpoint(
        folder / NAME, accelerator.device, KEYS | {"model", "step"}, settings.decisive(), data, "latents"
    )
    if content is not None:
        logits.classifier.load_state_dict(content["model"])
        optimization.go_on(content)
        step = content["step"]

    def terms(part: Draws) -> dict[str, Tensor]:
        own = training.users[part.indices].to(accelerator.device)
        found = optimization.model(latents[part.indices.to(accelerator.device)], part)
        return {"loss": nn.functional.cross_entropy(found, own)}

    pace = Pace(step)
    while step < settings.max_steps:
        draws = training_draws(len(training), training.shape, settings.batch_size, settings.seed, step, 0.0)
        rate = learning_rate(settings.learning_rate, "cosine", settings.max_steps // 10, step, settings.max_steps)
        values = optimization.update([draws.rows(optimization.own)], terms, rate, step)
        step += 1
        if main and pace.due(step) is not None:
            progress(f"classifier step {step}/{settings.max_steps}: loss {values['loss']:.4f}")
        if main and (step == settings.max_steps or step % settings.save_every == 0):
            content = {"settings": settings.decisive(), "data": data, "model": logits.classifier.state_dict()}
            save_checkpoint(folder / NAME, content | optimization.state() | {"step": step})
    record = {
        "settings": asdict(settings),
        "num_users": users,
        "latent_shape": model["latent_shape"],
        "scaling": model["scaling"],
        "simulated": model["simulated"],
        "steps": step,
        **_accuracy(logits, scaling.scale(validation.latents).to(accelerator.device), validation),
    }
    if main:
        save_classifier(folder, logits.classifier, record)
    accelerator.wait_for_everyone()
    return record


@torch.no_grad()
def _accuracy(logits: NoisyLogits, latents: Tensor, validation: LatentSet) -> dict[str, float]:
    logits.eval()
    draws = validation_draws(len(validation), validation.shape)
    found = [logits(latents[part.indices.to(latents.device)], part).argmax(1).cpu() for part in draws.parts(256)]
    right = torch.cat(found) == validation.users[draws.indices]
    little = right[draws.timesteps < LITTLE_NOISE]
    return {"accuracy": float(right.float().mean()), "accuracy_little_noise": float(little.float().mean())}
