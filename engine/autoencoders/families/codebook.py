"""VQModel: latents are replaced by the nearest entries of a codebook before they are decoded.

van den Oord et al., "Neural Discrete Representation Learning", arXiv 1711.00937, section 3.2: the gradient passes the
replacement unchanged. It is therefore not that of the decoded picture, but the loss is.
"""

from typing import Any

import torch
from torch import nn

from .parts import Parts, check_rgb, config_scaling, native_size


class CodebookDecoder(nn.Module):
    """VQModel.decode: nearest entries, post-quantisation convolution, decoder."""

    def __init__(self, vae: Any):
        super().__init__()
        self.codebook = nn.Parameter(vae.quantize.embedding.weight.detach(), requires_grad=False)  # (entries, C)
        self.post_quant_conv, self.decoder = vae.post_quant_conv, vae.decoder
        self.spatial = vae.config.norm_type == "spatial"  # the decoder's norms see the entries too

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        cells = latents.detach().movedim(1, -1)
        distances = torch.cdist(cells.flatten(0, -2).float(), self.codebook.float())  # bf16 has none on CPU
        entries = self.codebook[distances.argmin(1)].view(cells.shape).movedim(-1, 1)
        entries = latents + (entries - latents.detach())
        return self.decoder(self.post_quant_conv(entries), entries if self.spatial else None)


class CodebookEncoder(nn.Module):
    """VQModel.encode: latents before the codebook."""

    def __init__(self, vae: Any):
        super().__init__()
        self.encoder, self.quant_conv = vae.encoder, vae.quant_conv

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.quant_conv(self.encoder(images))


def codebook(vae: Any) -> Parts:
    """VQModel: LDM's VQ autoencoders, Kandinsky's MoVQ, aMUSEd."""
    config = vae.config
    check_rgb("VQModel", config.in_channels, config.out_channels)
    factor, channels = 2 ** (len(config.block_out_channels) - 1), vae.quantize.vq_embed_dim
    scaling = config_scaling(config, channels)
    return Parts(CodebookDecoder(vae), CodebookEncoder(vae), channels, factor, scaling, native_size(config, factor))
