"""diffusers' autoencoders of pictures: latents (B, C, h, w), and an encoder whose posterior's mode is its mean."""

from typing import Any

import torch
from torch import nn

from ...errors import UsageError
from ..scaling import BatchNormScaling
from .parts import Parts, check_rgb, config_scaling, native_size


class KLDecoder(nn.Module):
    """AutoencoderKL.decode without its slicing and tiling branches: post-quantisation convolution, then decoder."""

    def __init__(self, vae: Any):
        super().__init__()
        convolution = getattr(vae, "post_quant_conv", None)
        self.post_quant_conv = convolution if convolution is not None else nn.Identity()
        self.decoder = vae.decoder

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.post_quant_conv(latents))


class KLEncoder(nn.Module):
    """The mode of AutoencoderKL.encode's posterior, which is its mean."""

    def __init__(self, vae: Any):
        super().__init__()
        self.encoder = vae.encoder
        convolution = getattr(vae, "quant_conv", None)
        self.quant_conv = convolution if convolution is not None else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.quant_conv(self.encoder(images)).chunk(2, dim=1)[0]


class TemporalDecoder(nn.Module):
    """AutoencoderKLTemporalDecoder.decode of clips of one frame."""

    def __init__(self, vae: Any):
        super().__init__()
        self.decoder = vae.decoder

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.decoder(latents, image_only_indicator=latents.new_zeros(len(latents), 1), num_frames=1)


def kl(vae: Any) -> Parts:
    """AutoencoderKL: Stable Diffusion, SDXL, SD 3, FLUX.1, Z-Image, Chroma."""
    config = vae.config
    check_rgb("AutoencoderKL", config.in_channels, config.out_channels)
    factor, channels = 2 ** (len(config.block_out_channels) - 1), config.latent_channels
    scaling = config_scaling(config, channels)
    return Parts(KLDecoder(vae), KLEncoder(vae), channels, factor, scaling, native_size(config, factor))


def flux2(vae: Any) -> Parts:
    """AutoencoderKLFlux2: pipelines move 2×2 latent cells into the channels and normalise them by `bn`'s statistics."""
    config = vae.config
    check_rgb("AutoencoderKLFlux2", config.in_channels, config.out_channels)
    factor = 2 ** (len(config.block_out_channels) - 1)
    scaling = BatchNormScaling(
        tuple(vae.bn.running_mean.double().tolist()),
        tuple(vae.bn.running_var.double().tolist()),
        float(config.batch_norm_eps),
        tuple(config.patch_size),
    )
    return Parts(KLDecoder(vae), KLEncoder(vae), config.latent_channels, factor, scaling, native_size(config, factor))


def tiny(vae: Any) -> Parts:
    """AutoencoderTiny: TAESD and its relatives."""
    config = vae.config
    check_rgb("AutoencoderTiny", config.in_channels, config.out_channels)
    factor, channels = 2 ** (len(config.decoder_block_out_channels) - 1), config.latent_channels
    return Parts(vae.decoder, vae.encoder, channels, factor, config_scaling(config, channels))


def hunyuan_image(vae: Any) -> Parts:
    """AutoencoderKLHunyuanImage: HunyuanImage 2.1."""
    config = vae.config
    check_rgb("AutoencoderKLHunyuanImage", config.in_channels, config.out_channels)
    factor, channels = config.spatial_compression_ratio, config.latent_channels
    scaling = config_scaling(config, channels)
    return Parts(vae.decoder, KLEncoder(vae), channels, factor, scaling, native_size(config, factor))


def deep_compression(vae: Any) -> Parts:
    """AutoencoderDC: Sana. Its encoder gives a point, not a distribution."""
    config = vae.config
    check_rgb("AutoencoderDC", config.in_channels, config.in_channels)
    factor, channels = 2 ** (len(config.decoder_block_out_channels) - 1), config.latent_channels
    return Parts(vae.decoder, vae.encoder, channels, factor, config_scaling(config, channels))


def asymmetric(vae: Any) -> Parts:
    """AsymmetricAutoencoderKL: a larger decoder of Stable Diffusion's latents; decoded without its picture and mask."""
    config = vae.config
    check_rgb("AsymmetricAutoencoderKL", config.in_channels, config.out_channels)
    factor, channels = 2 ** (len(config.down_block_out_channels) - 1), config.latent_channels
    if len(config.up_block_out_channels) != len(config.down_block_out_channels):
        raise UsageError("this AsymmetricAutoencoderKL decodes to another size than it encodes; it must be the same")
    scaling = config_scaling(config, channels)
    vae.decoder.condition_encoder = nn.Identity()  # of the picture and mask; its weights would be copied for nothing
    return Parts(KLDecoder(vae), KLEncoder(vae), channels, factor, scaling, native_size(config, factor))


def kvae(vae: Any) -> Parts:
    """AutoencoderKLKVAE: the picture autoencoder of KVAE."""
    config = vae.config
    check_rgb("AutoencoderKLKVAE", config.in_channels, config.in_channels)
    factor, channels = 2 ** (len(config.ch_mult) - 1), config.z_channels
    scaling = config_scaling(config, channels)
    encoder = KLEncoder(vae) if config.double_z else vae.encoder
    return Parts(vae.decoder, encoder, channels, factor, scaling, native_size(config, factor))


def temporal(vae: Any) -> Parts:
    """AutoencoderKLTemporalDecoder: Stable Video Diffusion, as clips of one frame."""
    config = vae.config
    check_rgb("AutoencoderKLTemporalDecoder", config.in_channels, config.out_channels)
    factor, channels = 2 ** (len(config.block_out_channels) - 1), config.latent_channels
    scaling = config_scaling(config, channels)
    return Parts(TemporalDecoder(vae), KLEncoder(vae), channels, factor, scaling, native_size(config, factor))
