"""The decoder of Stable Diffusion 1.x for machines without diffusers: same layers, parameter names and arithmetic.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", 2022; 49.5 million parameters. A test
verifies that it equals diffusers' AutoencoderKL with the same state dict. The weights here are random, from a seed.
"""

import torch
import torch.nn.functional as F
from torch import nn

CHANNELS = (128, 256, 512, 512)


def widths(small: bool = False) -> tuple[tuple[int, ...], int]:
    """Return channels and groups: Stable Diffusion's, or small ones that any processor runs."""
    return ((8, 8, 16, 16), 4) if small else (CHANNELS, 32)


class ResnetBlock2D(nn.Module):
    """Two times GroupNorm, SiLU and a 3×3 convolution, with a residual connection."""

    time_emb_proj, time_embedding_norm = (
        None,
        "default",
    )  # The attributes of diffusers' block that `engine/autoencoders/rewrite.py` reads.

    def __init__(self, inside: int, outside: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inside, eps=1e-6)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outside, eps=1e-6)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        self.nonlinearity = nn.SiLU()
        self.conv_shortcut = nn.Conv2d(inside, outside, 1) if inside != outside else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.conv1(self.nonlinearity(self.norm1(x)))
        hidden = self.conv2(self.nonlinearity(self.norm2(hidden)))
        return hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Upsample2D(nn.Module):
    """Nearest-neighbour ×2 upsampling and a 3×3 convolution."""

    interpolate, norm = True, None

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Attention(nn.Module):
    """Single-head self-attention over all pixels, with a residual connection."""

    # the attributes of diffusers' attention that `engine/autoencoders/attention.py` reads
    heads, residual_connection, rescale_output_factor = 1, True, 1.0

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = (project(tokens).unsqueeze(1) for project in (self.to_q, self.to_k, self.to_v))
        mixed = self.to_out[0](F.scaled_dot_product_attention(q, k, v).squeeze(1))
        return x + mixed.transpose(1, 2).reshape(x.shape)


class UNetMidBlock2D(nn.Module):
    """A residual block, attention, and a residual block."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock2D(channels, channels, groups) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(channels, groups)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class UpBlock(nn.Module):
    """Three residual blocks, followed by upsampling except at full size."""

    def __init__(self, inside: int, outside: int, groups: int, up: bool):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock2D(inside if i == 0 else outside, outside, groups) for i in range(3))
        self.upsamplers = nn.ModuleList([Upsample2D(outside)]) if up else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        return x if self.upsamplers is None else self.upsamplers[0](x)


class Decoder(nn.Module):
    """The decoder after the post-quantisation convolution: (B, 4, h, w) -> (B, 3, 8h, 8w)."""

    def __init__(self, channels: tuple[int, ...], groups: int):
        super().__init__()
        widths = channels[::-1]
        self.conv_in = nn.Conv2d(4, widths[0], 3, padding=1)
        self.up_blocks = nn.ModuleList(
            UpBlock(widths[max(i - 1, 0)], width, groups, i < len(widths) - 1) for i, width in enumerate(widths)
        )
        self.mid_block = UNetMidBlock2D(widths[0], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_act = nn.SiLU()
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(self.conv_act(self.conv_norm_out(x)))


class SDDecoder(nn.Module):
    """The whole decoder: unscaled latents (B, 4, h, w) -> images (B, 3, 8h, 8w), nominally in [-1, 1]."""

    def __init__(self, seed: int = 0, channels: tuple[int, ...] = CHANNELS, groups: int = 32):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.post_quant_conv = nn.Conv2d(4, 4, 1)
            self.decoder = Decoder(channels, groups)
        self.requires_grad_(False).eval()

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.post_quant_conv(latents))


def gradient_flops(decoder: nn.Module, batch: int, size: int) -> tuple[int, int]:
    """Return the floating-point operations of the decoder's forward pass and of its backward pass to the latents.

    They are counted on meta tensors, without computing anything, for the decoder as defined: rewrites that save
    operations do not lower this nominal count.
    """
    import copy

    from torch.utils.flop_counter import FlopCounterMode

    meta = copy.deepcopy(decoder).to("meta")
    latents = torch.empty(batch, 4, size // 8, size // 8, device="meta", requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        image = meta(latents)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(image, latents, torch.empty_like(image))
    return forward.get_total_flops(), backward.get_total_flops()
