"""TAEF2, the tiny autoencoder for the FLUX.2 latent space, from its published state dicts.

Ollin Boer Bohan, "TAESD" (MIT licence). Module indices follow the files' keys; images are RGB in [0, 1].
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import UsageError, WeightsUnavailableError
from .autoencoder import Autoencoder
from .catalogue import Entry
from .files.weights import read_state_dict

LATENT_CHANNELS = 32
WIDTH = 64


class SoftClamp(nn.Module):
    """3·tanh(x / 3): keeps extreme latents from saturating what follows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    """Residual block of three 3×3 convolutions; a pooled one first adds a 1×1 bottleneck with GroupNorm."""

    def __init__(self, width: int, pooled: bool = False):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.pool = (
            nn.Sequential(
                nn.Conv2d(width, 4 * width, 1, bias=False),
                nn.GroupNorm(4, 4 * width),
                nn.ReLU(),
                nn.Conv2d(4 * width, width, 1, bias=False),
            )
            if pooled
            else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return F.relu(self.conv(x) + x)


def build_decoder() -> nn.Sequential:
    """(B, 32, h, w) -> (B, 3, 8h, 8w) in [0, 1]."""
    layers: list[nn.Module] = [SoftClamp(), nn.Conv2d(LATENT_CHANNELS, WIDTH, 3, padding=1), nn.ReLU()]
    for stage in range(3):
        layers += [Block(WIDTH, pooled=stage == 0) for _ in range(3)]
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, Block(WIDTH), nn.Conv2d(WIDTH, 3, 3, padding=1))


def build_encoder() -> nn.Sequential:
    """(B, 3, H, W) in [0, 1] -> (B, 32, H/8, W/8)."""
    layers: list[nn.Module] = [nn.Conv2d(3, WIDTH, 3, padding=1), Block(WIDTH)]
    for stage in range(3):
        layers.append(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, stride=2, bias=False))
        layers += [Block(WIDTH, pooled=stage == 2) for _ in range(3)]
    return nn.Sequential(*layers, nn.Conv2d(WIDTH, LATENT_CHANNELS, 3, padding=1))


def load_taef2(entry: Entry, weights: Path | None, token: str | None = None, *, clips: bool = False) -> Autoencoder:
    """`weights` is the folder with taef2_encoder and taef2_decoder, .safetensors or .pth, of any floating type."""
    if clips:
        raise UsageError(f"{entry.name!r} decodes pictures, not clips; leave clips=True out")
    if weights is None:
        raise WeightsUnavailableError(
            f"{entry.name!r} is read from two files: give --weights FOLDER with taef2_decoder.pth and taef2_encoder.pth "
            f"(or .safetensors), from the repository {entry.repository}"
        )
    parts = {}
    for part, module in (("decoder", build_decoder()), ("encoder", build_encoder())):
        state = _read_state_dict(weights, f"taef2_{part}")
        try:
            module.load_state_dict({key: tensor.float() for key, tensor in state.items()})
        except RuntimeError as error:
            reason = str(error).replace("\n", " ")
            raise UsageError(f"taef2_{part} in {weights} does not hold TAEF2's weights: {reason}") from error
        parts[part] = module
    return Autoencoder(
        parts["decoder"],
        parts["encoder"],
        name=entry.name,
        latent_channels=LATENT_CHANNELS,
        downscale_factor=8,
        value_range=(0.0, 1.0),
        native_size=entry.native_size,
        repository=entry.repository,
    )


def _read_state_dict(folder: Path, stem: str) -> dict[str, torch.Tensor]:
    for suffix in (".safetensors", ".pth"):
        path = folder / f"{stem}{suffix}"
        if path.is_file():
            return read_state_dict(path)
    raise WeightsUnavailableError(f"{folder} holds neither {stem}.safetensors nor {stem}.pth")
