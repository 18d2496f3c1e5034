"""`load_autoencoder`: a name, a folder, a diffusers object or any decoder, as an `Autoencoder`."""

import copy
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UsageError
from ..runtime.device import resolve_device
from .autoencoder import Autoencoder
from .catalogue import CATALOGUE


def load_autoencoder(
    source: Any,
    *,
    weights: str | Path | None = None,
    device: str | torch.device | None = None,
    encoder: Callable[[torch.Tensor], torch.Tensor] | None = None,
    name: str | None = None,
    token: str | None = None,
    **known: Any,
) -> Autoencoder:
    """Load or wrap an autoencoder, frozen, in fp32.

    source: a name (`relatent models` lists them), a diffusers folder, an AutoencoderKL or AutoencoderTiny, any
    `nn.Module` or callable decoder (B, C, h, w) -> (B, 3, H, W), or an `Autoencoder`, which is returned.
    weights: a folder that replaces the named model's own source. device: where to put it; default: the best there is
    for names and folders, where it already is for objects. Modules are copied, so the caller's stay as they are.
    encoder, name and `known` (latent_channels, downscale_factor, scaling_factor, shift_factor, value_range,
    native_size) describe a bare decoder. token: for gated repositories; default: HF_TOKEN.
    Raises `UsageError` for an unknown name or folder, `WeightsUnavailableError` where the weights cannot be had.
    """
    if isinstance(source, Autoencoder):
        return source if device is None else source.to(resolve_device(device))
    if isinstance(source, str | Path):
        if encoder is not None or known:
            raise UsageError("encoder=… and the facts about a decoder go with a module or a callable, not with a name")
        target = resolve_device("auto" if device is None else device)
        return _load_named(source, Path(weights) if weights is not None else None, token).to(target)
    if weights is not None:
        raise UsageError("weights=… goes with a name, not with an object that has its weights already")
    autoencoder = _wrap_object(source, encoder, name, known)
    return autoencoder if device is None else autoencoder.to(resolve_device(device))


def _load_named(source: str | Path, weights: Path | None, token: str | None) -> Autoencoder:
    entry = CATALOGUE.get(str(source))
    if entry is None:
        from .diffusers import load_folder

        folder = Path(source)
        if not folder.is_dir():
            raise UsageError(
                f"unknown autoencoder {str(source)!r}: neither a folder nor one of {', '.join(CATALOGUE)}; "
                "`relatent models` says where each comes from"
            )
        if weights is not None:
            raise UsageError("--weights goes with a name; a folder holds its weights already")
        return load_folder(folder)
    if weights is not None and not weights.is_dir():
        raise UsageError(f"--weights {weights}: no such folder")
    module, function = entry.loader.split(":")
    loader = getattr(import_module(f".{module}", __package__), function)
    autoencoder: Autoencoder = loader(entry, weights, token)
    if autoencoder.latent_channels != entry.latent_channels or autoencoder.downscale_factor != entry.downscale_factor:
        raise UsageError(
            f"{entry.name!r} has {entry.latent_channels} latent channels at 1/{entry.downscale_factor}, "
            f"the weights found have {autoencoder.latent_channels} at 1/{autoencoder.downscale_factor}"
        )
    return autoencoder


def _wrap_object(source: Any, encoder: Any, name: str | None, known: dict[str, Any]) -> Autoencoder:
    label = name or type(source).__name__
    if hasattr(source, "config") and hasattr(source, "decoder"):
        from .diffusers import wrap

        return wrap(copy.deepcopy(source).float(), label)
    if not callable(source):
        raise UsageError(f"expected a name, a folder, an autoencoder or a decoder, found {type(source).__name__}")
    parts = [copy.deepcopy(part) if isinstance(part, nn.Module) else part for part in (source, encoder)]
    return Autoencoder(parts[0], parts[1], name=label, **known)
