"""Autoencoders of diffusers: AutoencoderKL and AutoencoderTiny, from the hub, a folder, or an object."""

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UsageError, WeightsUnavailableError
from .autoencoder import Autoencoder
from .catalogue import CATALOGUE, Entry
from .scaling import ChannelScaling, FactorScaling, Scaling

SUPPORTED = ("AutoencoderKL", "AutoencoderTiny")
BUNDLED = Path(__file__).parent / "tiny"


class KLDecoder(nn.Module):
    """AutoencoderKL.decode without its slicing and tiling branches: post-quantisation convolution, then decoder."""

    def __init__(self, vae: Any):
        super().__init__()
        self.post_quant_conv = vae.post_quant_conv if vae.post_quant_conv is not None else nn.Identity()
        self.decoder = vae.decoder

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.post_quant_conv(latents))


class KLEncoder(nn.Module):
    """The mode of AutoencoderKL.encode's posterior, which is its mean."""

    def __init__(self, vae: Any):
        super().__init__()
        self.encoder = vae.encoder
        self.quant_conv = vae.quant_conv if vae.quant_conv is not None else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.quant_conv(self.encoder(images)).chunk(2, dim=1)[0]


def wrap(vae: Any, name: str, **known: Any) -> Autoencoder:
    """An AutoencoderKL or AutoencoderTiny object as an `Autoencoder`, sharing its weights."""
    kind = type(vae).__name__
    if kind not in SUPPORTED:
        raise UsageError(f"{name!r} is a {kind}; of diffusers' autoencoders {' and '.join(SUPPORTED)} are supported")
    config = vae.config
    decoder, encoder = (KLDecoder(vae), KLEncoder(vae)) if kind == "AutoencoderKL" else (vae.decoder, vae.encoder)
    stages = config.block_out_channels if kind == "AutoencoderKL" else config.decoder_block_out_channels
    sample_size = config.get("sample_size", None)
    known.setdefault("native_size", sample_size if isinstance(sample_size, int) else 512)
    return Autoencoder(
        decoder,
        encoder,
        name=name,
        latent_channels=config.latent_channels,
        downscale_factor=2 ** (len(stages) - 1),
        scaling=_scaling(config),
        **known,
    )


def _scaling(config: Any) -> Scaling:
    """How pipelines scale the latents of an autoencoder with this configuration: by factor and shift, or, where it has
    `latents_mean` and `latents_std`, per channel, as Stable Diffusion XL's pipelines do."""
    factor = float(config.scaling_factor if config.scaling_factor is not None else 1.0)
    mean, std = config.get("latents_mean", None), config.get("latents_std", None)
    if mean is not None and std is not None:
        return ChannelScaling(tuple(map(float, mean)), tuple(map(float, std)), factor)
    return FactorScaling(factor, float(config.get("shift_factor", None) or 0.0))


def load_bundled(entry: Entry, weights: Path | None, token: str | None = None) -> Autoencoder:
    """Load the autoencoder inside this package, or another of its shape from `weights`."""
    return load_folder(weights or BUNDLED, entry.name)


def load_hub(entry: Entry, weights: Path | None, token: str | None = None) -> Autoencoder:
    """Load from `weights`, a local folder, where given; else from the hub or its cache. Raises `WeightsUnavailableError`."""
    if weights is not None:
        return load_folder(weights, entry.name)
    import diffusers

    kind = diffusers.AutoencoderTiny if entry.name.startswith("tae") else diffusers.AutoencoderKL
    where = {"subfolder": entry.subfolder} if entry.subfolder else {}
    try:
        with quiet():
            vae = kind.from_pretrained(
                entry.repository, token=token, torch_dtype=torch.float32, low_cpu_mem_usage=False, **where
            )
    except Exception as error:
        raise unavailable(entry, error) from error
    return wrap_hub(vae, entry)


def wrap_hub(vae: Any, entry: Entry) -> Autoencoder:
    """Wrap an autoencoder of the hub, with the repository's name and the revision that the local cache holds."""
    return wrap(vae, entry.name, native_size=entry.native_size, repository=entry.repository, revision=_revision(entry))


def unavailable(entry: Entry, error: Exception) -> WeightsUnavailableError:
    """Return the error for whatever the hub's client raised, in one line: it uses a dozen exception types, most with a page of
    text."""
    reason = " ".join(str(error).split())
    if len(reason) > 160:
        reason = reason[:157] + "…"
    return WeightsUnavailableError(
        f"the weights of {entry.name!r} ({entry.repository}) cannot be had: {reason} Remedy: go online, accept the "
        f"repository's licence and set HF_TOKEN where it is gated, or give --weights FOLDER in diffusers' layout. "
        f"Names that exist: {', '.join(CATALOGUE)}"
    )


@contextlib.contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Silence these loggers, and warnings, inside the block: what matters is in this package's own error."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def load_folder(folder: Path, name: str | None = None) -> Autoencoder:
    """Load a folder that diffusers' `save_pretrained` wrote, or a pipeline's folder with `vae/` in it."""
    if not (folder / "config.json").is_file() and (folder / "vae" / "config.json").is_file():
        folder = folder / "vae"
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder} is no diffusers autoencoder: no config.json that names its class") from error
    if kind not in SUPPORTED:
        raise UsageError(f"{folder} holds a {kind}; of diffusers' autoencoders {' and '.join(SUPPORTED)} are supported")
    import diffusers

    try:
        vae = getattr(diffusers, kind).from_pretrained(
            folder, local_files_only=True, torch_dtype=torch.float32, low_cpu_mem_usage=False
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UsageError(f"cannot load the {kind} in {folder}: {reason}") from error
    return wrap(vae, name or folder.resolve().name)


def _revision(entry: Entry) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    file = f"{entry.subfolder}/config.json" if entry.subfolder else "config.json"
    found = try_to_load_from_cache(entry.repository or "", file)
    if not isinstance(found, str):  # None, or a mark that the file is known not to exist
        return None
    return Path(found).parents[len(Path(file).parts) - 1].name  # …/snapshots/REVISION/file
