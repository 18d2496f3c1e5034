"""Spectrograms from a VQ-VAE and a transformer, as a folder that can be read as a folder of measured ones."""

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
from ..diffusion.draws import sample_seed
from .model_folder import TRANSFORMER_NAME, VQVAE_NAME, load_vq_model
from .sampler import sample_codes


@dataclass(frozen=True)
class VQGenerationSettings:
    """What decides a sample, beside model, user and number."""

    guidance_scale: float = 1.5  # of the logits; 1: the user's alone
    temperature: float = 1.0
    top_k: int | None = None  # draw of as many codes at most; None: of all
    seed: int = 0


def generate_vq(
    model_dir: str | Path,
    output_dir: str | Path,
    samples_per_user: int = 10,
    user_ids: Sequence[int] | None = None,
    settings: VQGenerationSettings = VQGenerationSettings(),
    batch_size: int = 32,
    device: str = "auto",
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Write the same folder as `diffusion.generate.generate`, on the same terms, from what `train_vq` wrote.

    user_ids: the n of the folders, from 1 on; None: all users of the model. Returns the content of `generation.json`.
    Raises `UsageError` for a user or model that does not exist, and for a folder of other settings.
    """
    model = load_vq_model(model_dir)
    plan = requested(user_ids, model.transformer.condition.num_users, samples_per_user)
    if batch_size < 1:
        raise UsageError(f"batch_size: expected at least 1, found {batch_size}")
    weights = {name: file_sha256(model.folder / f"{name}.safetensors") for name in (VQVAE_NAME, TRANSFORMER_NAME)}
    folder = SampleFolder(Path(output_dir), {**weights, **asdict(settings)})
    where = resolve_device(device)
    transformer, vqvae = model.transformer.to(where), model.vqvae.to(where)

    def draw(batch: Sequence[Sample]) -> Tensor:
        codes = sample_codes(
            transformer,
            torch.tensor([user for user, _ in batch]),
            [sample_seed(settings.seed, *one) for one in batch],
            settings.guidance_scale,
            settings.temperature,
            settings.top_k,
        )
        with torch.no_grad():
            return vqvae.decode(codes.unflatten(1, model.shape)).cpu()

    return folder.fill(plan, draw, batch_size, model.records[TRANSFORMER_NAME]["simulated"], on_step)
