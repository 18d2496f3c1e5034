"""A tiny model with random weights of each class of diffusers' autoencoders, and what diffusers itself makes of it."""

from dataclasses import dataclass
from typing import Any

import torch

FOUR = dict(down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
WIDTHS = dict(block_out_channels=(8, 16, 16, 16), layers_per_block=1, norm_num_groups=4)
RESIDUAL = ("ResBlock", "ResBlock", "EfficientViTBlock")
DC = dict(
    latent_channels=8, attention_head_dim=8, encoder_block_types=RESIDUAL, decoder_block_types=RESIDUAL,
    encoder_block_out_channels=(16, 16, 32), decoder_block_out_channels=(16, 16, 32), encoder_layers_per_block=(1,) * 3,
    decoder_layers_per_block=(1,) * 3, encoder_qkv_multiscales=((), (), (5,)), decoder_qkv_multiscales=((), (), (5,)),
    upsample_block_type="interpolate", downsample_block_type="Conv", scaling_factor=0.41,
)  # fmt: skip
WAN22 = dict(
    base_dim=8, decoder_base_dim=12, z_dim=48, dim_mult=[1, 2, 4, 4], latents_mean=[0.1] * 48, latents_std=[0.5] * 48,
    is_residual=True, in_channels=12, out_channels=12, patch_size=2, scale_factor_spatial=16,
)  # fmt: skip
LTX = dict(
    latent_channels=8, block_out_channels=(16, 32, 32, 32), decoder_block_out_channels=(16, 32, 32, 32),
    layers_per_block=(1,) * 5, decoder_layers_per_block=(1,) * 5,
)  # fmt: skip
LTX2 = dict(
    latent_channels=8, block_out_channels=(16, 32, 64, 128), decoder_block_out_channels=(16, 32, 64),
    layers_per_block=(1,) * 5, decoder_layers_per_block=(1,) * 4,
)  # fmt: skip
COSMOS = dict(encoder_block_out_channels=(16, 32, 32, 32), decode_block_out_channels=(32,) * 4, num_layers=1)
MOCHI = dict(encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(32,) * 4, layers_per_block=(1,) * 5)
HUNYUAN = dict(
    in_channels=3, out_channels=3, latent_channels=16, block_out_channels=(32, 32, 32, 32, 32, 64), layers_per_block=1,
    spatial_compression_ratio=32, sample_size=64, scaling_factor=0.75,
)  # fmt: skip
RAE = dict(
    encoder_type="mae", encoder_hidden_size=64, encoder_patch_size=16, encoder_num_hidden_layers=1, patch_size=16,
    encoder_input_size=64, decoder_hidden_size=32, decoder_num_hidden_layers=1, decoder_num_attention_heads=4,
    decoder_intermediate_size=32,
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A class, what is made of it, and what must be found."""

    kind: str
    settings: dict[str, Any]
    channels: int
    factor: int
    video: bool = False
    inputs: int = 3
    size: int = 64
    low: float = -1.0  # of its value range


CASES: dict[str, Case] = {
    "kl": Case("AutoencoderKL", FOUR | WIDTHS | {"scaling_factor": 0.3}, 4, 8),
    "kl-statistics": Case(
        "AutoencoderKL",
        FOUR | WIDTHS | {"latents_mean": [0.1, -0.2, 0.3, 0.4], "latents_std": [1.5, 2.0, 0.5, 3.0]},
        4,
        8,
    ),
    "tiny": Case(
        "AutoencoderTiny",
        dict(
            encoder_block_out_channels=(4,) * 4,
            decoder_block_out_channels=(4,) * 4,
            num_encoder_blocks=(1,) * 4,
            num_decoder_blocks=(1,) * 4,
        ),
        4,
        8,
    ),
    "flux2": Case("AutoencoderKLFlux2", FOUR | WIDTHS | {"latent_channels": 8}, 8, 8),
    "flux2-small": Case(
        "AutoencoderKLFlux2", FOUR | WIDTHS | {"latent_channels": 8, "decoder_block_out_channels": (4, 8, 16, 16)}, 8, 8
    ),
    "qwen": Case("AutoencoderKLQwenImage", {"base_dim": 8}, 16, 8, True),
    "qwen-layered": Case("AutoencoderKLQwenImage", {"base_dim": 8, "input_channels": 4}, 16, 8, True, 4),
    "wan21": Case("AutoencoderKLWan", {"base_dim": 8}, 16, 8, True),
    "wan22": Case("AutoencoderKLWan", WAN22, 48, 16, True),
    "qwen21": Case("AutoencoderKLQwenImage21", {"base_dim": 8, "decoder_base_dim": 8}, 64, 16, True, 4),
    "hunyuan-image": Case("AutoencoderKLHunyuanImage", HUNYUAN, 16, 32),
    "dc": Case("AutoencoderDC", DC, 8, 4),
    "asymmetric": Case(
        "AsymmetricAutoencoderKL",
        FOUR | dict(down_block_out_channels=(8,) * 4, up_block_out_channels=(16,) * 4, norm_num_groups=4),
        4,
        8,
    ),
    "vq": Case("VQModel", FOUR | WIDTHS | {"latent_channels": 4, "vq_embed_dim": 3, "num_vq_embeddings": 16}, 3, 8),
    "vq-spatial": Case(
        "VQModel",
        FOUR
        | WIDTHS
        | {"latent_channels": 4, "norm_type": "spatial", "block_out_channels": (32,) * 4, "norm_num_groups": 32},
        4,
        8,
    ),
    "kvae": Case("AutoencoderKLKVAE", dict(channels=32, num_enc_blocks=1, num_dec_blocks=1, sample_size=64), 16, 8),
    "temporal": Case(
        "AutoencoderKLTemporalDecoder",
        dict(down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=(32,) * 4),
        4,
        8,
    ),
    "hunyuan-video": Case(
        "AutoencoderKLHunyuanVideo", dict(block_out_channels=(32,) * 4, layers_per_block=1), 16, 8, True
    ),
    "hunyuan-refiner": Case(
        "AutoencoderKLHunyuanImageRefiner",
        dict(block_out_channels=(32, 32, 32, 64, 64), layers_per_block=1),
        32,
        16,
        True,
    ),
    "ltx2": Case("AutoencoderKLLTX2Video", LTX2, 8, 32, True),
    "ltx": Case("AutoencoderKLLTXVideo", LTX, 8, 32, True),
    "cosmos": Case("AutoencoderKLCosmos", COSMOS, 16, 8, True),
    "mochi": Case("AutoencoderKLMochi", MOCHI, 12, 8, True),
    "cogvideox": Case(
        "AutoencoderKLCogVideoX", dict(block_out_channels=(32,) * 4, layers_per_block=1, latent_channels=8), 8, 8, True
    ),
    "magvit": Case("AutoencoderKLMagvit", dict(block_out_channels=(32,) * 4, layers_per_block=1), 16, 8, True),
    "kvae-video": Case("AutoencoderKLKVAEVideo", dict(ch=32, num_res_blocks=1), 16, 8, True),
    "rae": Case("AutoencoderRAE", RAE, 64, 16, low=0.0),
}


def make(name: str, seed: int = 0) -> Any:
    """The model of a case, in evaluation mode; statistics that diffusers leaves at 0 and 1 are others."""
    import diffusers

    case = CASES[name]
    torch.manual_seed(seed)
    model = getattr(diffusers, case.kind)(**case.settings).eval()
    if case.kind == "AutoencoderKLFlux2":
        model.bn.running_mean.normal_()
        model.bn.running_var.uniform_(0.5, 2.0)
    if case.kind in ("AutoencoderKLLTXVideo", "AutoencoderKLLTX2Video"):
        model.latents_mean.normal_()
        model.latents_std.uniform_(0.5, 2.0)
    return model


def diffusers_encode(model: Any, case: Case, images: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, C, h, w): the posterior's mode, by the model's own `encode`."""
    if case.inputs == 4:
        images = torch.cat([images, torch.ones_like(images[:, :1])], 1)
    images = images if case.low == -1.0 else (images + 1) / 2
    with torch.no_grad():
        found = model.encode(images.unsqueeze(2) if case.video else images)
    for name in ("latent", "latents"):
        if hasattr(found, name):
            return getattr(found, name)
    mode = found.latent_dist.mode()
    return mode[:, :, 0] if case.video else mode


def diffusers_decode(model: Any, case: Case, latents: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) -> (B, 3, H, W), clamped to [-1, 1], by the model's own `decode`; differentiable."""
    frames = {"num_frames": 1} if case.kind == "AutoencoderKLTemporalDecoder" else {}
    output = model.decode(latents.unsqueeze(2) if case.video else latents, **frames).sample
    output = (output[:, :, 0] if case.video else output)[:, :3]
    return (output if case.low == -1.0 else output * 2 - 1).clamp(-1, 1)
