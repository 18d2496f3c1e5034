"""The folder of a trained VQ-VAE and transformer, read without running any code in it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ....engine.errors import UsageError
from ....engine.runtime.atomic import atomic_path, write_json
from .settings import TransformerSettings, VQVAESettings
from .transformer import Transformer
from .vqvae import VQVAE

VQVAE_NAME, TRANSFORMER_NAME = "vqvae", "transformer"  # each is NAME.safetensors with NAME.json


@dataclass(frozen=True)
class VQModel:
    """Both networks, in evaluation mode. shape: (h, w) of a picture's codes. records: by the networks' names."""

    vqvae: VQVAE
    transformer: Transformer
    shape: tuple[int, int]
    records: dict[str, dict[str, Any]]
    folder: Path


def save_network(folder: Path, name: str, network: nn.Module, record: dict[str, Any]) -> None:
    """Write the weights, then the record, which has the `settings` at least."""
    with atomic_path(folder / f"{name}.safetensors") as path:
        save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    write_json(folder / f"{name}.json", record)


def build_vqvae(settings: VQVAESettings) -> VQVAE:
    """With random weights of the settings' seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return VQVAE(settings)


def build_transformer(settings: TransformerSettings, vqvae: VQVAESettings) -> Transformer:
    """For codes of that VQ-VAE, with random weights of the settings' seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return Transformer(settings, vqvae.num_embeddings, (vqvae.resolution // vqvae.downscale_factor) ** 2)


def load_vq_model(folder: str | Path) -> VQModel:
    """Read what `train_vq` wrote, on the CPU. Raises `UsageError` for a folder that is no such model, or a damaged one."""
    folder = Path(folder)
    try:
        records = {
            name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            for name in (VQVAE_NAME, TRANSFORMER_NAME)
        }
        settings = VQVAESettings(**records[VQVAE_NAME]["settings"])
        vqvae = build_vqvae(settings)
        transformer = build_transformer(TransformerSettings(**records[TRANSFORMER_NAME]["settings"]), settings)
        vqvae.load_state_dict(load_file(folder / f"{VQVAE_NAME}.safetensors"))
        transformer.load_state_dict(load_file(folder / f"{TRANSFORMER_NAME}.safetensors"))
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, ValueError) as error:
        raise UsageError(
            f"{folder} is no whole model of train_vq ({' '.join(str(error).split())[:200]}); train one"
        ) from error
    side = settings.resolution // settings.downscale_factor
    return VQModel(vqvae.eval(), transformer.eval(), (side, side), records, folder)
