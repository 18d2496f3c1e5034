"""A whole training by what it is trained on: a folder of spectrograms and a VAE, or a dataset of latents."""

from pathlib import Path
from typing import Any

import torch

from ....engine.errors import UsageError
from ..data.spectrogram_folder import read_index, read_spectrograms
from ..data.split import split_by_recording
from ..guidance.training import ClassifierSettings, train_guidance
from ..training.acceleration import make_accelerator
from ..vae.model import find_vae, read_record
from .encoding import encode_spectrograms
from .joint import JointSettings, train_jointly
from .latent_set import LatentSet
from .settings import DiffusionSettings, recipe_settings
from .trainer import OnStep, Progress, train_diffusion

CACHE = "latents.safetensors"
HELD_OUT, SPLIT_SEED = 0.2, 0  # where the VAE's record says nothing


def train_on_spectrograms(
    data_dir: str | Path,
    vae_dir: str | Path,
    output_dir: str | Path,
    recipe: str = "standard",
    resolution: int | None = None,
    num_users: int | None = None,
    joint_steps: int = 0,
    classifier_steps: int = 0,
    progress: Progress = print,
    on_step: OnStep | None = None,
    **given: Any,
) -> dict[str, Any]:
    """Train on the latents of the users ID_1 to ID_{num_users} (None: all), or go on with that training.

    The recordings that were held out of the VAE's training are held out here too. resolution: must be the VAE's, which is the default.
    joint_steps: updates of the third phase, see `train_jointly`; 0: none. classifier_steps: of the classifier that guides, see
    `train_guidance`; 0: none. given: settings in place of the recipe's. Returns the record in `model.json`, with those of these phases as
    `joint` and `classifier`. Raises `UsageError` and `SpectrogramError` before any work.
    """
    record = read_record(find_vae(Path(vae_dir))[1])
    if resolution not in (None, record["resolution"]):
        raise UsageError(
            f"resolution: the VAE in {vae_dir} is of {record['resolution']} pixels, found {resolution}; leave it out, or train a VAE of that"
        )
    items = read_spectrograms(data_dir, num_users)
    users = max(item.user for item in items) + 1
    settings = recipe_settings(recipe, **{**given, "num_users": users})
    index = read_index(Path(data_dir))
    parts = split_by_recording(items, record.get("held_out", HELD_OUT), record.get("split_seed", SPLIT_SEED))
    accelerator = make_accelerator(settings.device, settings.mixed_precision)
    with accelerator.main_process_first():  # the others read what it has encoded
        latents = encode_spectrograms(
            vae_dir, items, Path(output_dir) / CACHE, device=accelerator.device, progress=progress
        )
    number = {item: row for row, item in enumerate(items)}
    training, validation = (latents.select(torch.tensor([number[item] for item in part])) for part in parts)
    trained = train_diffusion(
        settings,
        training,
        validation,
        output_dir,
        vae_dir=vae_dir,
        simulated=None if index is None else index["simulated"],
        progress=progress,
        on_step=on_step,
    )
    trained |= _with_classifier(classifier_steps, settings, output_dir, training, validation, progress)
    if not joint_steps:
        return trained
    joint = JointSettings(joint_steps, seed=settings.seed, device=settings.device)
    return trained | {"joint": train_jointly(output_dir, *parts, joint, progress)["joint"]}


def train_on_dataset(
    dataset: str | Path,
    output_dir: str | Path,
    column: str = "optimized_latents",
    vae_dir: str | Path | None = None,
    recipe: str = "standard",
    num_users: int | None = None,
    classifier_steps: int = 0,
    progress: Progress = print,
    on_step: OnStep | None = None,
    **given: Any,
) -> dict[str, Any]:
    """Train on a `dataset.h5` that `relatent optimize` wrote, see `LatentSet.from_dataset`, or go on with that training.

    vae_dir: decodes the sample grids, and is copied beside the model. num_users: must be the number there is, which is the default.
    """
    latents = LatentSet.from_dataset(dataset, column)
    users = int(latents.users.max()) + 1
    if num_users not in (None, users):
        raise UsageError(f"num_users: {dataset} has {users} users, found {num_users}; leave it out")
    settings = recipe_settings(recipe, **{**given, "num_users": users})
    training, validation = latents.split(HELD_OUT, SPLIT_SEED)
    trained = train_diffusion(
        settings, training, validation, output_dir, vae_dir=vae_dir, progress=progress, on_step=on_step
    )
    return trained | _with_classifier(classifier_steps, settings, output_dir, training, validation, progress)


def _with_classifier(
    steps: int,
    settings: DiffusionSettings,
    output_dir: str | Path,
    training: LatentSet,
    validation: LatentSet,
    progress: Progress,
) -> dict[str, Any]:
    if not steps:
        return {}
    own = ClassifierSettings(steps, seed=settings.seed, device=settings.device)
    return {"classifier": train_guidance(output_dir, training, validation, own, progress)}
