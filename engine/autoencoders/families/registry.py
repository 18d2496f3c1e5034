"""The classes of diffusers' autoencoders that are known, and why the others are refused. A new one is one line."""

from collections.abc import Callable
from typing import Any

from ...errors import UsageError
from ...modality import Modality
from ..autoencoder import Autoencoder
from . import causal, codebook, one_frame, pictures, representation
from .parts import Parts

PICTURES: dict[str, Callable[[Any], Parts]] = {
    "AutoencoderKL": pictures.kl,
    "AutoencoderTiny": pictures.tiny,
    "AutoencoderKLFlux2": pictures.flux2,
    "AutoencoderKLHunyuanImage": pictures.hunyuan_image,
    "AutoencoderDC": pictures.deep_compression,
    "AsymmetricAutoencoderKL": pictures.asymmetric,
    "AutoencoderKLKVAE": pictures.kvae,
    "AutoencoderKLTemporalDecoder": pictures.temporal,
    "VQModel": codebook.codebook,
    "AutoencoderRAE": representation.representation,
}
VIDEO: dict[str, Callable[[Any, bool], Parts]] = {
    "AutoencoderKLQwenImage": causal.causal,
    "AutoencoderKLQwenImage21": causal.causal,
    "AutoencoderKLWan": causal.causal,
    "AutoencoderKLHunyuanVideo": one_frame.hunyuan_video,
    "AutoencoderKLHunyuanImageRefiner": one_frame.hunyuan_video,
    "AutoencoderKLLTXVideo": one_frame.ltx_video,
    "AutoencoderKLLTX2Video": one_frame.ltx_video,
    "AutoencoderKLCosmos": one_frame.cosmos,
    "AutoencoderKLMochi": one_frame.mochi,
    "AutoencoderKLCogVideoX": one_frame.blocks,
    "AutoencoderKLMagvit": one_frame.blocks,
    "AutoencoderKLKVAEVideo": one_frame.kvae_video,
}
REFUSED: dict[str, str] = {
    "AutoencoderKLAllegro": "diffusers encodes and decodes it in fixed tiles of clips only",
    "AutoencoderKLHunyuanVideo15": "diffusers' attention of it fails on more than one sample in a batch",
    "ConsistencyDecoderVAE": "its decoder draws noise: a latent has no one picture",
}


def check_kind(kind: object, where: str) -> None:
    """Raise `UsageError` unless a class of this name is known. where: what the message calls it."""
    if kind in PICTURES or kind in VIDEO:
        return
    reason = REFUSED.get(str(kind), f"those known are {', '.join((*PICTURES, *VIDEO))}")
    raise UsageError(f"{where} holds a {kind}, which is not supported: {reason}")


def wrap(vae: Any, name: str, *, clips: bool = False, **known: Any) -> Autoencoder:
    """An object of a known class as an `Autoencoder` that shares its weights and may change its modules.

    clips: latents (B, C, t, h, w) and outputs (B, 3, T, H, W) instead of pictures. known: goes to `Autoencoder`, before what
    the object says itself. Raises `UsageError` for an unknown class, and for one without clips.
    """
    kind = type(vae).__name__
    check_kind(kind, repr(name))
    if kind in VIDEO:
        parts = VIDEO[kind](vae, clips)
    elif clips:
        raise UsageError(f"{name!r} is an {kind}, which decodes pictures, not clips; leave clips=True out")
    else:
        parts = PICTURES[kind](vae)
    if clips:  # the factor of frames is another than that of pixels
        known.setdefault("modality", Modality(-1.0, 1.0, name="clips"))
    known.setdefault("native_size", parts.native_size)
    return Autoencoder(
        parts.decoder,
        parts.encoder,
        name=name,
        latent_channels=parts.latent_channels,
        downscale_factor=None if clips else parts.downscale_factor,
        scaling=parts.scaling,
        value_range=parts.value_range,
        **known,
    )
