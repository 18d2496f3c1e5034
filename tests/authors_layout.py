"""Weights of diffusers' models by the keys of their authors' own checkpoints."""

import re

import torch


def ldm(state: dict[str, torch.Tensor], levels: int = 4, nested: bool = False) -> dict[str, torch.Tensor]:
    """AutoencoderKL's and AutoencoderKLFlux2's, as Stable Diffusion's authors name them. nested: quantisation convolutions
    inside encoder and decoder, as FLUX.2's authors have them."""
    renamed = {}
    for key, value in state.items():
        new = key
        if match := re.match(r"decoder\.up_blocks\.(\d)\.(.*)", new):
            new = f"decoder.up.{levels - 1 - int(match[1])}.{match[2]}"
        new = re.sub(r"encoder\.down_blocks\.(\d)\.", r"encoder.down.\1.", new)
        new = new.replace(".resnets.", ".block.").replace("conv_shortcut", "nin_shortcut")
        new = new.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
        new = re.sub(r"mid_block\.block\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        new = new.replace("mid_block.attentions.0", "mid.attn_1").replace("conv_norm_out", "norm_out")
        if "attn_1" in new:
            for old, short in (
                ("group_norm", "norm"),
                ("to_q", "q"),
                ("to_k", "k"),
                ("to_v", "v"),
                ("to_out.0", "proj_out"),
            ):
                new = new.replace(f".{old}.", f".{short}.")
            value = value[:, :, None, None] if value.ndim == 2 else value
        if nested and "quant_conv" in new:
            new = ("decoder." if new.startswith("post") else "encoder.") + new
        renamed[new] = value
    return renamed


def wan(state: dict[str, torch.Tensor], resnets: int = 3) -> dict[str, torch.Tensor]:
    """AutoencoderKLWan's and AutoencoderKLQwenImage's, as Wan 2.1's authors name them. resnets: in a level of the decoder."""
    layers = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6"}
    renamed = {}
    for key, value in state.items():
        new = re.sub(r"^quant_conv", "conv1", re.sub(r"^post_quant_conv", "conv2", key))
        new = new.replace("conv_in.", "conv1.").replace("norm_out.", "head.0.").replace("conv_out.", "head.2.")
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"middle.{2 * int(m[1])}", new)
        new = new.replace("mid_block.attentions.0", "middle.1").replace("encoder.down_blocks", "encoder.downsamples")
        if match := re.match(r"decoder\.up_blocks\.(\d)\.(resnets|upsamplers)\.(\d)\.(.*)", new):
            block, inner = int(match[1]), int(match[3]) if match[2] == "resnets" else resnets
            new = f"decoder.upsamples.{block * (resnets + 1) + inner}.{match[4]}"
        for name, place in layers.items():
            new = re.sub(rf"((?:middle|downsamples|upsamples)\.\d+)\.{name}\.", rf"\1.{place}.", new)
        renamed[new.replace("conv_shortcut", "shortcut")] = value
    return renamed
