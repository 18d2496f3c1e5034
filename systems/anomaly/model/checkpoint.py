"""A training's checkpoint, read without Lightning."""

import pickle
from pathlib import Path
from typing import Any

import torch

from ....engine.errors import UsageError
from .vqvae import VQVAE3D, build_vqvae_3d

PREFIX = "model."  # the model's place in the Lightning module


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Its entries, among them `state_dict` and `hyper_parameters`: the `model`'s and the `training`'s configuration.

    Nothing in the file is executed. Raises `UsageError` where it cannot be read or has no such entries.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["hyper_parameters"]["model"], checkpoint["state_dict"]
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path} cannot be read as a checkpoint of a VQ-VAE: {reason}") from None
    return checkpoint


def load_model(path: Path) -> VQVAE3D:
    """The checkpoint's model on the processor, in evaluation mode. Raises `UsageError`."""
    checkpoint = read_checkpoint(path)
    model = build_vqvae_3d(checkpoint["hyper_parameters"]["model"])
    weights = {name.removeprefix(PREFIX): value for name, value in checkpoint["state_dict"].items()}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UsageError(f"{path} has other weights than its configuration: {str(error).splitlines()[-1]}") from None
    return model.eval()
