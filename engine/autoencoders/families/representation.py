"""AutoencoderRAE: latents are the normalised tokens of a frozen vision transformer, one picture size only.

Zheng et al., "Diffusion Transformers with Representation Autoencoders", arXiv 2510.11690. diffusers normalises inside
`encode` and `decode`, so latents are already what the diffusion model sees: the scaling is the identity.
"""

from typing import Any

import torch
from torch import nn

from ...errors import UsageError
from ..scaling import FactorScaling
from .parts import Parts, check_rgb


class TokenDecoder(nn.Module):
    """AutoencoderRAE.decode without the encoder's weights; pictures in [0, 1]."""

    def __init__(self, vae: Any):
        super().__init__()
        self.vae = without(vae, "encoder")

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(latents.contiguous(), return_dict=False)[0]


class TokenEncoder(nn.Module):
    """AutoencoderRAE.encode of pictures (B, 3, size, size) in [0, 1]."""

    def __init__(self, vae: Any, size: int):
        super().__init__()
        self.vae, self.size = without(vae, "decoder"), size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-2:] != (self.size, self.size):
            height, width = images.shape[-2:]
            raise UsageError(
                f"an AutoencoderRAE decodes pictures of {self.size}x{self.size} only, found {width}x{height}; "
                f"give --size {self.size}"
            )
        return self.vae.encode(images, return_dict=False)[0]


def without(model: Any, *names: str) -> Any:
    """A model that shares all of another's modules but these."""
    part = model.__class__.__new__(model.__class__)
    part.__dict__.update(model.__dict__)
    part._modules = {name: module for name, module in model._modules.items() if name not in names}
    return part


def representation(vae: Any) -> Parts:
    """AutoencoderRAE. Raises `UsageError` for one whose latents are a sequence."""
    config = vae.config
    check_rgb("AutoencoderRAE", config.num_channels, config.num_channels)
    if not config.reshape_to_2d:
        raise UsageError("this AutoencoderRAE gives sequences of tokens (reshape_to_2d is false), expected (C, h, w)")
    size, factor = vae.decoder_image_size, vae.decoder_patch_size
    return Parts(
        TokenDecoder(vae),
        TokenEncoder(vae, size),
        config.encoder_hidden_size,
        factor,
        FactorScaling(),
        size,
        (0.0, 1.0),
    )
