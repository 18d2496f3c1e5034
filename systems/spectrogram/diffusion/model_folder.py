"""The folder of a trained model: written whole or not at all, read without running any code in it."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ....engine.errors import UsageError
from ....engine.runtime.atomic import atomic_path, discard, file_sha256, publish, temporary_name, write_json
from ..vae.model import RECORD, VAE, find_vae, read_record
from .encoding import WEIGHTS
from .latent_scaling import LatentScaling
from .network import ConditionalUNet, build_network
from .settings import DiffusionSettings

MODEL, SCHEMA = "model.json", 1
UNET, EMA_UNET, CONDITION, BEST = "unet", "ema_unet", "condition.safetensors", "best"
AVERAGED = "ema."  # precedes the names of averaged weights in `condition.safetensors`
KEYS = {"schema", "settings", "latent_shape", "scaling", "vae", "simulated", "steps", "validation_loss"}


@dataclass(frozen=True)
class DiffusionModel:
    """A trained network with what it needs: its scaling of latents, and the folder's `model.json`."""

    network: ConditionalUNet
    scaling: LatentScaling
    record: dict[str, Any]
    folder: Path

    @property
    def num_users(self) -> int:
        """Users are numbered from 0 to this, exclusive."""
        return self.network.condition.num_users

    @property
    def vae_folder(self) -> Path | None:
        """Where its VAE is; None for a model that was trained on latents alone."""
        return None if self.record["vae"] is None else self.folder / self.record["vae"]


def save_model(
    folder: Path, network: ConditionalUNet, record: dict[str, Any], averaged: ConditionalUNet | None = None
) -> None:
    """Write `unet/` and, where there are averaged weights, `ema_unet/`, in diffusers' layout, then `condition.safetensors` and
    `model.json`. record: of `KEYS` at least, but for `schema`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(network.condition.state_dict())
    for name, one in ((UNET, network), (EMA_UNET, averaged)):
        if one is None:
            continue
        temporary = temporary_name(folder / name)
        try:
            one.unet.save_pretrained(temporary)
            publish(temporary, folder / name)
        finally:
            discard(temporary)
    if averaged is not None:
        tensors |= {f"{AVERAGED}{name}": tensor for name, tensor in averaged.condition.state_dict().items()}
    with atomic_path(folder / CONDITION) as path:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    write_json(folder / MODEL, {"schema": SCHEMA, **record})


def load_model(folder: str | Path, ema: bool = True) -> DiffusionModel:
    """Read what `save_model` wrote, on the CPU, in evaluation mode. ema: take the averaged weights where there are some.

    Raises `UsageError` for a folder that is no model, or a damaged one.
    """
    folder = Path(folder)
    record = read_model_record(folder)
    averaged = ema and (folder / EMA_UNET).is_dir()
    try:
        settings = DiffusionSettings(**record["settings"])
        network = build_network(settings, tuple(record["latent_shape"]))
        scaling = LatentScaling.from_record(record["scaling"])
        weights = load_file(folder / (EMA_UNET if averaged else UNET) / WEIGHTS)
        network.unet.load_state_dict(weights)
        network.condition.load_state_dict(_condition(load_file(folder / CONDITION), averaged))
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, ValueError) as error:
        raise UsageError(
            f"{folder} is damaged ({' '.join(str(error).split())[:200]}); `relatent spectrogram train` makes a model"
        ) from error
    return DiffusionModel(network.eval(), scaling, record, folder)


def read_model_record(folder: Path) -> dict[str, Any]:
    """The folder's `model.json`. Raises `UsageError` where there is none that is whole."""
    try:
        record = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{folder / MODEL} cannot be read ({error}); give a folder that `relatent spectrogram train` has finished"
        ) from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA or not record.keys() >= KEYS:
        raise UsageError(f"{folder / MODEL}: expected schema {SCHEMA} with {', '.join(sorted(KEYS))}")
    return record


def copy_vae(vae_dir: str | Path, folder: Path) -> None:
    """Copy a VAE with the record of its training to `folder`, unless it is there. Raises `UsageError` where there is none."""
    source, record = find_vae(Path(vae_dir))
    read_record(record)
    if not (source / WEIGHTS).is_file():
        raise UsageError(f"{source / WEIGHTS} is not there; give a folder that `relatent spectrogram train-vae` wrote")
    final = folder / VAE
    same = (final / WEIGHTS).is_file() and file_sha256(final / WEIGHTS) == file_sha256(source / WEIGHTS)
    if not same:
        temporary = temporary_name(final)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copytree(source, temporary)
            publish(temporary, final)
        finally:
            discard(temporary)
    if record.resolve() != (folder / RECORD).resolve():
        with atomic_path(folder / RECORD) as path:
            shutil.copyfile(record, path)


def remove_partial(folder: Path) -> None:
    """Remove what killed trainings left of files and folders that they did not complete."""
    for path in (*folder.glob(".*.partial-*"), *folder.glob(".*.old-*")):
        discard(path)


def _condition(tensors: dict[str, Tensor], averaged: bool) -> dict[str, Tensor]:
    if averaged:
        return {name.removeprefix(AVERAGED): tensor for name, tensor in tensors.items() if name.startswith(AVERAGED)}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(AVERAGED)}
