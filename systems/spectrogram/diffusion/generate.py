"""Spectrograms from a trained model, as a folder that can be read as a folder of measured ones."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....engine.errors import UsageError
from ....engine.runtime.atomic import file_sha256
from ....engine.runtime.device import resolve_device
from ..data.sample_folder import OnStep, Sample, SampleFolder, requested
from ..guidance.classifier import WEIGHTS as CLASSIFIER
from ..guidance.classifier import has_classifier, load_classifier
from ..vae.model import find_vae, load_vae
from .draws import sample_seed
from .encoding import WEIGHTS
from .model_folder import BEST, CONDITION, EMA_UNET, UNET, DiffusionModel, load_model
from .sampler import Classifier, sample_latents


@dataclass(frozen=True)
class GenerationSettings:
    """What decides a sample, beside model, user and number. guidance_scale: None for the one that the model's training had."""

    guidance_scale: float | None = None  # 1: the condition alone; 0: no condition
    num_inference_steps: int = 50
    seed: int = 0
    ema: bool = True  # the averaged weights, where the model has some
    classifier_scale: float = 0.0  # of the classifier's gradient; 0: no classifier


def generate(
    model_dir: str | Path,
    output_dir: str | Path,
    samples_per_user: int = 10,
    user_ids: Sequence[int] | None = None,
    settings: GenerationSettings = GenerationSettings(),
    batch_size: int = 16,
    device: str = "auto",
    vae_dir: str | Path | None = None,
    classifier: Classifier | None = None,
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Write `ID_{n}/sample_{i:04d}.png`, i from 0 on, and `spectrograms.json`, which says that they are generated.

    classifier: None for the model's own, which is used where classifier_scale is above 0.
    user_ids: the n of the folders, from 1 on; None: all users of the model. vae_dir: None for the model's own VAE. Samples that are
    there already are left as they are, so a stopped generation goes on, and a larger number of samples or users adds to it. A sample is
    the same whichever others are asked for, beyond rounding. Returns the content of `generation.json`.
    Raises `UsageError` for a user or model that does not exist, and for a folder of other settings.
    """
    model = load_model(model_dir, settings.ema)
    plan = requested(user_ids, model.num_users, samples_per_user)
    if batch_size < 1:
        raise UsageError(f"batch_size: expected at least 1, found {batch_size}")
    if not 0.0 <= settings.classifier_scale < float("inf"):
        raise UsageError(f"classifier_scale: expected a number from 0 on, found {settings.classifier_scale}")
    scale: float = settings.guidance_scale  # type: ignore[assignment]  # None is replaced here
    if scale is None:
        scale = model.record["settings"]["condition_scale"]
    where_vae = vae_dir or model.vae_folder
    if where_vae is None:
        raise UsageError(f"{model_dir} was trained on latents without a VAE; give the vae_dir that decodes them")
    vae = load_vae(where_vae)[0]
    identity = {
        "model": _weights_digest(model, settings.ema),
        "vae": file_sha256(find_vae(Path(where_vae))[0] / WEIGHTS),
        **asdict(settings),
        "guidance_scale": scale,
    }
    where = resolve_device(device)
    if classifier is None and settings.classifier_scale > 0.0:
        own = _classifier_folder(model.folder)
        classifier = load_classifier(own, model.record).to(where).log_probability
        identity["classifier"] = file_sha256(own / CLASSIFIER)
    folder = SampleFolder(Path(output_dir), identity)
    network, vae = model.network.to(where), vae.to(where)

    def draw(batch: Sequence[Sample]) -> Tensor:
        latents = sample_latents(
            network,
            model.scaling,
            torch.tensor([user for user, _ in batch]),
            [sample_seed(settings.seed, *one) for one in batch],
            scale,
            settings.num_inference_steps,
            classifier if settings.classifier_scale > 0.0 else None,
            settings.classifier_scale,
        )
        with torch.no_grad():
            pictures: Tensor = vae.decode(latents).sample
        return pictures.float().cpu()

    return folder.fill(plan, draw, batch_size, model.record["simulated"], on_step)


def _classifier_folder(model: Path) -> Path:
    """The best model so far is beside the classifier of its training; no other subfolder's latents are the same."""
    return model.parent if model.name == BEST and not has_classifier(model) else model


def _weights_digest(model: DiffusionModel, ema: bool) -> str:
    averaged = ema and (model.folder / EMA_UNET).is_dir()
    files = (model.folder / (EMA_UNET if averaged else UNET) / WEIGHTS, model.folder / CONDITION)
    return " ".join(map(file_sha256, files))
