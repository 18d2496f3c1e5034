"""What one gradient through each public decoder costs, counted without weights: the figures of the catalogue.

    python -m relatent.benchmarks.research.decoder_cost [NAME ...]

TFLOP of a picture of 512²: forward, and backward to the latent; two for each multiplication and addition. Convolutions are
those of the decoder as the loop runs it before its rewrites, so folded upsampling saves more than is counted.
"""

import argparse
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ...engine.autoencoders.catalogue import CATALOGUE, Entry
from ...engine.autoencoders.diffusers import BUNDLED
from ...engine.autoencoders.families.registry import wrap
from ...engine.autoencoders.files.folder import load_folder
from ...engine.autoencoders.rewrite import freeze_convolutions
from ...engine.autoencoders.taef2 import build_decoder
from ...engine.autoencoders.taehv import FrameDecoder

SIDE = 512
DOWN, UP = dict(down_block_types=("DownEncoderBlock2D",) * 4), dict(up_block_types=("UpDecoderBlock2D",) * 4)
PLAIN = DOWN | UP | dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2)
LITE, VIT = ("ResBlock",) * 3, ("EfficientViTBlock",) * 3
SANA = dict(
    encoder_block_types=LITE + VIT, decoder_block_types=LITE + VIT, decoder_layers_per_block=(3,) * 6,
    encoder_block_out_channels=(128, 256, 512, 512, 1024, 1024), encoder_layers_per_block=(2, 2, 2, 3, 3, 3),
    decoder_block_out_channels=(128, 256, 512, 512, 1024, 1024), encoder_qkv_multiscales=((),) * 3 + ((5,),) * 3,
    decoder_qkv_multiscales=((),) * 3 + ((5,),) * 3, downsample_block_type="Conv", upsample_block_type="interpolate",
)  # fmt: skip
WAN22 = dict(
    base_dim=160, decoder_base_dim=256, z_dim=48, is_residual=True, in_channels=12, out_channels=12, patch_size=2,
    scale_factor_spatial=16, latents_mean=[0.0] * 48, latents_std=[1.0] * 48,
)  # fmt: skip
HUNYUAN = dict(
    in_channels=3, out_channels=3, latent_channels=64, block_out_channels=(128, 256, 512, 512, 1024, 1024),
    layers_per_block=2, spatial_compression_ratio=32, sample_size=384, scaling_factor=0.75289,
)  # fmt: skip
ASYMMETRIC = dict(down_block_out_channels=(128, 256, 512, 512), layers_per_down_block=2)
MOVQ = dict(
    down_block_types=(*("DownEncoderBlock2D",) * 3, "AttnDownEncoderBlock2D"), norm_type="spatial", latent_channels=4,
    up_block_types=("AttnUpDecoderBlock2D", *("UpDecoderBlock2D",) * 3), block_out_channels=(128, 256, 256, 512),
    layers_per_block=2, num_vq_embeddings=16384, vq_embed_dim=4,
)  # fmt: skip
# name in the catalogue -> class and published configuration, where it is not the class's own
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "sd15": ("AutoencoderKL", PLAIN),
    "flux": ("AutoencoderKL", PLAIN | dict(latent_channels=16, use_quant_conv=False, use_post_quant_conv=False)),
    "taesd": ("AutoencoderTiny", {}),
    "taef1": ("AutoencoderTiny", {"latent_channels": 16}),
    "flux2": ("AutoencoderKLFlux2", {}),
    "flux2-small": ("AutoencoderKLFlux2", {"decoder_block_out_channels": (96, 192, 384, 384)}),
    "qwen-image": ("AutoencoderKLQwenImage", {}),
    "qwen-image-2.1": ("AutoencoderKLQwenImage21", {}),
    "wan21": ("AutoencoderKLWan", {}),
    "wan22": ("AutoencoderKLWan", WAN22),
    "hunyuan-image": ("AutoencoderKLHunyuanImage", HUNYUAN),
    "sana": ("AutoencoderDC", SANA),
    "asymmetric-x2": (
        "AsymmetricAutoencoderKL",
        DOWN | UP | ASYMMETRIC | dict(up_block_out_channels=(256, 512, 1024, 1024), layers_per_up_block=5),
    ),
    "kvae": ("AutoencoderKLKVAE", {}),
    "movq": ("VQModel", MOVQ),
    "svd": (
        "AutoencoderKLTemporalDecoder", DOWN | dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2)
    ),
    "hunyuan-video": ("AutoencoderKLHunyuanVideo", {}),
    "ltx-video": ("AutoencoderKLLTXVideo", {}),
    "cosmos": ("AutoencoderKLCosmos", {}),
    "mochi": ("AutoencoderKLMochi", {}),
    "cogvideox": ("AutoencoderKLCogVideoX", dict(block_out_channels=(128, 256, 256, 512), layers_per_block=3)),
    "easyanimate": ("AutoencoderKLMagvit", {}),
}  # fmt: skip

TAEHV = {  # patch, and frames made at each stage
    "taehv": (1, (1, 2, 2)), "taew2_1": (1, (1, 2, 2)), "taew2_2": (2, (1, 2, 2)), "taehv1_5": (2, (1, 2, 2)),
    "taecvx": (1, (1, 2, 2)),
}  # fmt: skip


def count(kind: str, settings: dict[str, Any]) -> dict[str, float]:
    """TFLOP, latent channels, pixels per cell, and of the decoder's convolutions how many there are and how many freeze."""
    import diffusers

    with torch.device("meta"):
        model = getattr(diffusers, kind)(**settings).to("meta")
    for name in ("bn", "latents_mean", "latents_std"):  # what the scaling reads
        part = getattr(model, name, None)
        if isinstance(part, nn.Module):
            cast(nn.modules.batchnorm._BatchNorm, part.to_empty(device="cpu")).reset_running_stats()
        elif isinstance(part, torch.Tensor):
            setattr(model, name, torch.ones(part.shape))
    vae = wrap(model.requires_grad_(False), kind)
    return count_decoder(vae.decoder, vae.latent_channels or 0, vae.downscale_factor or 1)


def count_decoder(decoder: Any, channels: int, factor: int) -> dict[str, float]:
    """The same of a decoder on the meta device."""
    latents = torch.zeros(1, channels, SIDE // factor, SIDE // factor, device="meta", requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        decoder(latents).sum().backward()
    kinds = (nn.Conv2d, nn.Conv3d)
    convolutions = sum(isinstance(module, kinds) for module in decoder.modules())
    return {
        "tflop": round(counter.get_total_flops() / 1e12, 2),
        "channels": channels,
        "factor": factor,
        "convolutions": convolutions,
        "frozen": freeze_convolutions(decoder),
    }


def count_named(name: str) -> dict[str, float]:
    """The same of a name of the catalogue that `NAMES` lists."""
    if name in MODELS:
        return count(*MODELS[name])
    entry = CATALOGUE[name]
    if name in TAEHV:
        patch, grows = TAEHV[name]
        shapes = {f"decoder.{i}.weight": (after, before) for i, before, after in _taehv_widths(entry, patch)}
        shapes |= {
            f"decoder.{i}.conv.weight": (width * n, width)
            for i, width, n in zip((7, 13, 19), (256, 128, 64), grows, strict=False)
        }
        decoder: Any = FrameDecoder({key: torch.empty(*shape, 1, 1, device="meta") for key, shape in shapes.items()})
        decoder.keep_last_frame()
    else:
        decoder = build_decoder() if name == "taef2" else load_folder(BUNDLED, name).decoder
    return count_decoder(decoder.to("meta").requires_grad_(False), entry.latent_channels, entry.downscale_factor)


def _taehv_widths(entry: Entry, patch: int) -> tuple[tuple[int, int, int], ...]:
    return (1, entry.latent_channels, 256), (8, 256, 128), (14, 128, 64), (20, 64, 64), (22, 64, 3 * patch**2)


NAMES = ("tiny", *MODELS, "taef2", *TAEHV)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each decoder that is asked for, or for all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all without one: {', '.join(NAMES)}")
    names = parser.parse_args(arguments).names
    if unknown := sorted(set(names) - set(NAMES)):
        parser.error(f"unknown {', '.join(unknown)}; the names are {', '.join(NAMES)}")
    for name in names or NAMES:
        found = count_named(name)
        print(f"{name:16}{found['tflop']:8.2f} TFLOP, {found['frozen']} of {found['convolutions']} convolutions freeze")


if __name__ == "__main__":
    main()
