"""The encoder of Stable Diffusion 1.x by its layers, with random weights: what encoding costs, not what it finds."""

import torch
import torch.nn.functional as F
from torch import nn

from ...sd_decoder import CHANNELS, ResnetBlock2D, UNetMidBlock2D


class SDEncoder(nn.Module):
    """Pictures (B, 3, H, W) -> latents (B, 4, H/8, W/8), about of variance 1. Frozen, weights from a seed."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS, groups: int = 32):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            layers: list[nn.Module] = [nn.Conv2d(3, channels[0], 3, padding=1)]
            for i, width in enumerate(channels):
                layers += [ResnetBlock2D(channels[max(i - 1, 0)], width, groups), ResnetBlock2D(width, width, groups)]
                if i < len(channels) - 1:
                    layers += [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(width, width, 3, stride=2)]
            layers += [UNetMidBlock2D(channels[-1], groups), nn.GroupNorm(groups, channels[-1], eps=1e-6), nn.SiLU()]
            self.layers = nn.Sequential(*layers)
            self.conv_out = nn.Conv2d(channels[-1], 4, 3, padding=1)
        self.requires_grad_(False).eval()

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        latents = self.conv_out(self.layers(pictures))
        return F.instance_norm(latents)
