"""Wan, Qwen-Image and Qwen-Image 2.1: causal 3-D autoencoders, on pictures as 2-D networks, on clips as they are."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...errors import UsageError
from .flatten import flatten
from .parts import Parts, check_rgb, config_scaling

FRAMES_PER_LATENT = 4  # after the first one, which stands alone


class FrameDecoder(nn.Module):
    """(B, C, h, w) -> (B, 3, H, W): what decoding a clip of one frame gives, not clamped."""

    def __init__(self, vae: Any, patch: int):
        super().__init__()
        self.post_quant_conv, self.decoder, self.patch = flatten(vae.post_quant_conv), flatten(vae.decoder), patch

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return unpatchify(self.decoder(self.post_quant_conv(latents)), self.patch)[:, :3]


class FrameEncoder(nn.Module):
    """(B, 3, H, W) -> (B, C, h, w): the posterior's mode. A fourth channel, opacity, is 1."""

    def __init__(self, vae: Any, patch: int, channels: int):
        super().__init__()
        self.encoder, self.quant_conv = flatten(vae.encoder), flatten(vae.quant_conv)
        self.patch, self.channels = patch, channels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.quant_conv(self.encoder(patchify(opaque(images, self.channels), self.patch))).chunk(2, dim=1)[0]


class ClipDecoder(nn.Module):
    """(B, C, t, h, w) -> (B, 3, 1 + 4·(t − 1), H, W), not clamped, one latent frame after another.

    Causal layers remember their last frames in a list that lives for one call.
    """

    def __init__(self, vae: Any, patch: int):
        super().__init__()
        self.post_quant_conv, self.decoder, self.patch = vae.post_quant_conv, vae.decoder, patch
        self.memories = vae._cached_conv_counts["decoder"]

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        memory: list[Any] = [None] * self.memories
        first = {} if type(self.decoder).__name__.startswith("QwenImage") else {"first_chunk": True}
        frames = []
        for frame in self.post_quant_conv(latents).split(1, dim=2):
            frames.append(self.decoder(frame, feat_cache=memory, feat_idx=[0], **first))
            first = {}
        clip = torch.cat(frames, 2)
        return unpatchify(clip.transpose(1, 2).flatten(0, 1), self.patch).unflatten(0, clip.shape[:3:2]).transpose(1, 2)


class ClipEncoder(nn.Module):
    """(B, 3, 1 + 4·n, H, W) -> (B, C, 1 + n, h, w): the posterior's mode."""

    def __init__(self, vae: Any, patch: int):
        super().__init__()
        self.encoder, self.quant_conv, self.patch = vae.encoder, vae.quant_conv, patch
        self.memories = vae._cached_conv_counts["encoder"]

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        frames = clips.shape[2]
        if (frames - 1) % FRAMES_PER_LATENT:
            raise UsageError(f"clips: expected 1 + a multiple of {FRAMES_PER_LATENT} frames, found {frames}")
        flat = patchify(clips.transpose(1, 2).flatten(0, 1), self.patch)
        clips = flat.unflatten(0, (len(clips), frames)).transpose(1, 2)
        memory: list[Any] = [None] * self.memories
        parts = [clips[:, :, :1], *clips[:, :, 1:].split(FRAMES_PER_LATENT, dim=2)]
        parts = [part for part in parts if part.shape[2]]
        encoded = [self.encoder(part, feat_cache=memory, feat_idx=[0]) for part in parts]
        return self.quant_conv(torch.cat(encoded, 2)).chunk(2, dim=1)[0]


def opaque(images: torch.Tensor, channels: int) -> torch.Tensor:
    """Pictures with as many channels as asked for: the fourth is 1."""
    return images if channels == 3 else torch.cat([images, torch.ones_like(images[:, :1])], 1)


def patchify(images: torch.Tensor, patch: int) -> torch.Tensor:
    """(B, C, H, W) -> (B, C·p·p, H/p, W/p): columns of a patch before its rows."""
    if patch == 1:
        return images
    moved = F.pixel_unshuffle(images, patch).unflatten(1, (-1, patch, patch))
    return moved.transpose(2, 3).flatten(1, 3)


def unpatchify(images: torch.Tensor, patch: int) -> torch.Tensor:
    """The inverse of `patchify`."""
    if patch == 1:
        return images
    moved = images.unflatten(1, (-1, patch, patch)).transpose(2, 3).flatten(1, 3)
    return F.pixel_shuffle(moved, patch)


def causal(vae: Any, clips: bool = False) -> Parts:
    """AutoencoderKLWan, AutoencoderKLQwenImage and AutoencoderKLQwenImage21; changes the model unless for clips."""
    config, kind = vae.config, type(vae).__name__
    patch = config.get("patch_size", None) or 1
    inputs = config.get("in_channels", None) or config.get("input_channels", 3)
    outputs = config.get("out_channels", None) or config.get("input_channels", 3)
    inputs, outputs = inputs // patch**2, outputs // patch**2
    if (inputs, outputs) != (4, 4) or kind == "AutoencoderKLWan":  # Qwen-Image's fourth channel is opacity
        check_rgb(kind, inputs, outputs)
    factor = 2 ** (len(config.dim_mult) - 1) * patch
    scaling = config_scaling(config, config.z_dim)
    if not clips:
        return Parts(
            FrameDecoder(vae, patch),
            FrameEncoder(vae, patch, inputs),
            config.z_dim,
            factor,
            scaling,
            native_size(factor),
        )
    if kind == "AutoencoderKLQwenImage21" or inputs != 3:
        raise UsageError(f"this {kind} is made for pictures of {inputs} channels, it has no clips")
    return Parts(ClipDecoder(vae, patch), ClipEncoder(vae, patch), config.z_dim, factor, scaling, native_size(factor))


def native_size(factor: int) -> int:
    """These are made for pictures of about a megapixel, and say so nowhere."""
    return 1024 // factor * factor
