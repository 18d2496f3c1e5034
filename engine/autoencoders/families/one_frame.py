"""Autoencoders of clips whose temporal layers are not causal in one way: diffusers decodes a clip of one frame."""

from typing import Any

import torch
from torch import nn

from ...errors import UsageError
from .parts import Parts, check_rgb, config_scaling, native_size
from .representation import without


class OneFrameDecoder(nn.Module):
    """(B, C, h, w) -> (B, 3, H, W), or clips (B, C, t, h, w) -> (B, 3, T, H, W)."""

    def __init__(self, vae: Any, clips: bool):
        super().__init__()
        self.vae, self.clips = without(vae, "encoder", "quant_conv"), clips

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        if self.clips:
            return self.vae.decode(latents, return_dict=False)[0]
        return self.vae.decode(latents.unsqueeze(2), return_dict=False)[0][:, :, 0]


class OneFrameEncoder(nn.Module):
    """(B, 3, H, W) -> (B, C, h, w), or clips: the posterior's mode."""

    def __init__(self, vae: Any, clips: bool):
        super().__init__()
        self.vae, self.clips = without(vae, "decoder", "post_quant_conv"), clips
        self.magnifies_rounding = type(vae).__name__ == "AutoencoderKLMochi"  # its sines have high frequencies
        # torch pools no volumes of 16 bits on CPU; and sines of high frequencies of rounded pictures are others
        self.keeps_fp32 = self.magnifies_rounding or type(vae).__name__ == "AutoencoderKLCosmos"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.clips:
            return self.vae.encode(images).latent_dist.mode()
        return self.vae.encode(images.unsqueeze(2)).latent_dist.mode()[:, :, 0]


def _parts(
    vae: Any, clips: bool, channels: int, factor: int, mean: Any = None, std: Any = None, inputs: int = 0
) -> Parts:
    config = vae.config
    check_rgb(type(vae).__name__, inputs or config.get("in_channels", 3), config.get("out_channels", 3))
    scaling = config_scaling(config, channels, mean, std)
    decoder, encoder = OneFrameDecoder(vae, clips), OneFrameEncoder(vae, clips)
    return Parts(decoder, encoder, channels, factor, scaling, native_size(config, factor))


def hunyuan_video(vae: Any, clips: bool = False) -> Parts:
    """AutoencoderKLHunyuanVideo, and the refiner of HunyuanImage 2.1."""
    return _parts(vae, clips, vae.config.latent_channels, vae.config.spatial_compression_ratio)


def blocks(vae: Any, clips: bool = False) -> Parts:
    """AutoencoderKLCogVideoX and AutoencoderKLMagvit (EasyAnimate)."""
    return _parts(vae, clips, vae.config.latent_channels, 2 ** (len(vae.config.block_out_channels) - 1))


def mochi(vae: Any, clips: bool = False) -> Parts:
    """AutoencoderKLMochi: Mochi 1, whose encoder adds 12 channels of sines to the picture's 3."""
    return _parts(
        vae, clips, vae.config.latent_channels, vae.spatial_compression_ratio, inputs=vae.config.in_channels - 12
    )


def cosmos(vae: Any, clips: bool = False) -> Parts:
    """AutoencoderKLCosmos: its statistics are those of each latent frame; a picture's are the first one's."""
    config = vae.config
    if clips:
        raise UsageError("AutoencoderKLCosmos normalises each latent frame by statistics of its own: pictures only")
    channels = config.latent_channels
    mean, std = (
        None if values is None else torch.tensor(values, dtype=torch.float64).flatten().view(channels, -1)[:, 0]
        for values in (config.latents_mean, config.latents_std)
    )
    return _parts(vae, clips, channels, config.spatial_compression_ratio, mean, std)


def ltx_video(vae: Any, clips: bool = False) -> Parts:
    """AutoencoderKLLTXVideo of LTX-Video 0.9.0 and AutoencoderKLLTX2Video; their statistics are with the weights."""
    if vae.config.timestep_conditioning:
        raise UsageError(
            f"this {type(vae).__name__} decodes with a timestep of the diffusion model (LTX-Video 0.9.1 and later do), so a "
            "latent has no one picture; that of LTX-Video 0.9.0 has"
        )
    config, halvings = vae.config, sum(vae.config.spatio_temporal_scaling)
    if type(vae).__name__ == "AutoencoderKLLTX2Video":  # a stage of it may halve the frames only
        halvings -= sum(kind == "temporal" for kind in config.downsample_type)
    factor = config.patch_size * 2**halvings
    return _parts(vae, clips, config.latent_channels, factor, vae.latents_mean, vae.latents_std)


def kvae_video(vae: Any, clips: bool = False) -> Parts:
    """AutoencoderKLKVAEVideo: KVAE's autoencoder of clips."""
    return _parts(vae, clips, vae.config.z_channels, 2 ** (len(vae.config.ch_mult) - 1))
