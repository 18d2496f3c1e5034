"""`load_autoencoder`: a name, a folder, a diffusers object or any decoder, as an `Autoencoder`."""

import copy
import re
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
from .files.weights import SUFFIXES

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")  # owner/name on the hub


def load_autoencoder(
    source: Any,
    *,
    weights: str | Path | None = None,
    device: str | torch.device | None = None,
    encoder: Callable[[torch.Tensor], torch.Tensor] | None = None,
    name: str | None = None,
    token: str | None = None,
    clips: bool = False,
    **known: Any,
) -> Autoencoder:
    """Load or wrap an autoencoder, frozen, in fp32.

    source: a name (`relatent models` lists them), a folder of diffusers' (an autoencoder's or a pipeline's), a checkpoint of
    one file, a repository `owner/name` of the hub, an object of a diffusers class that docs/autoencoders.md lists, any
    `nn.Module` or callable decoder (B, C, h, w) -> (B, 3, H, W), or an `Autoencoder`, which is returned (and moved in place, where
    a device is given).
    weights: a folder or file that replaces the named model's own source. device: where to put it; default: the best there is
    for names and folders, where it already is for objects. Modules are copied, so the caller's stay as they are.
    encoder, name and `known` (latent_channels, downscale_factor, scaling_factor, shift_factor, scaling, value_range,
    native_size, modality, coordinates, repository, revision: see `Autoencoder`) describe a bare decoder. token: for gated repositories; default: HF_TOKEN.
    clips: of an autoencoder of video, latents (B, C, t, h, w) and outputs (B, 3, T, H, W); otherwise pictures, as clips of
    one frame, without the axis of time.
    Raises `UsageError` for an unknown name or folder and for arguments that do not go with the source, `WeightsUnavailableError` where the weights cannot be had.
    """
    if isinstance(source, Autoencoder):
        return source if device is None else source.to(resolve_device(device))
    if isinstance(source, str | Path):
        if encoder is not None or known:
            raise UsageError("encoder=… and the facts about a decoder go with a module or a callable, not with a name")
        target = resolve_device("auto" if device is None else device)
        return _load_named(source, Path(weights) if weights is not None else None, token, clips).to(target)
    if weights is not None:
        raise UsageError("weights=… goes with a name, not with an object that has its weights already")
    autoencoder = _wrap_object(source, encoder, name, clips, known)
    return autoencoder if device is None else autoencoder.to(resolve_device(device))


def _load_named(source: str | Path, weights: Path | None, token: str | None, clips: bool) -> Autoencoder:
    entry = CATALOGUE.get(str(source))
    if entry is None:
        if weights is not None:
            raise UsageError("--weights goes with a name; a folder, a file and a repository hold their weights already")
        return _load_place(source, token, clips)
    if weights is not None and not weights.exists():
        raise UsageError(f"--weights {weights}: no such folder or file")
    module, function = entry.loader.split(":")
    loader = getattr(import_module(f".{module}", __package__), function)
    autoencoder: Autoencoder = loader(entry, weights, token, clips=clips)
    if autoencoder.latent_channels != entry.latent_channels or autoencoder.downscale_factor != entry.downscale_factor:
        raise UsageError(
            f"{entry.name!r} has {entry.latent_channels} latent channels at 1/{entry.downscale_factor}, "
            f"the weights found have {autoencoder.latent_channels} at 1/{autoencoder.downscale_factor}"
        )
    return autoencoder


def _load_place(source: str | Path, token: str | None, clips: bool) -> Autoencoder:
    """From a folder, a file, or the hub."""
    place = Path(source)
    if place.is_dir():
        from .files.folder import load_folder

        return load_folder(place, clips=clips)
    if place.is_file():
        from .files.single_file import load_single_file

        return load_single_file(place, clips=clips)
    if isinstance(source, str) and _REPOSITORY.fullmatch(source) and place.suffix not in SUFFIXES:
        from .diffusers import load_repository

        return load_repository(source, token, clips=clips)
    raise UsageError(
        f"unknown autoencoder {str(source)!r}: no folder, no file, no repository owner/name, nor one of "
        f"{', '.join(CATALOGUE)}; `relatent models` says where each comes from"
    )


def _wrap_object(source: Any, encoder: Any, name: str | None, clips: bool, known: dict[str, Any]) -> Autoencoder:
    label = name or type(source).__name__
    if hasattr(source, "config") and hasattr(source, "decoder"):
        from .families.registry import wrap

        return wrap(copy.deepcopy(source).float(), label, clips=clips)
    if clips:
        raise UsageError("clips=True goes with an autoencoder of video; give a decoder of clips its modality")
    if not callable(source):
        raise UsageError(f"expected a name, a folder, an autoencoder or a decoder, found {type(source).__name__}")
    parts = [copy.deepcopy(part).float() if isinstance(part, nn.Module) else part for part in (source, encoder)]
    return Autoencoder(parts[0], parts[1], name=label, **known)
