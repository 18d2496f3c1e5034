"""TAEHV and TAEW: tiny autoencoders for the latents of video models, on pictures, from their published state dicts.

Ollin Boer Bohan, "TAEHV" (MIT licence): taehv (HunyuanVideo), taew2_1 (Wan 2.1, Qwen-Image), taew2_2, taecvx, taehv1_5 and
their wider variants. Module indices follow the files' keys; images are RGB in [0, 1]. Latents are what the diffusion model
sees, so their scaling is the identity. A picture is encoded as a clip that repeats it, and the last frame that its latent
decodes to is the picture, as with clips of one frame in the author's code.
"""

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import UsageError, WeightsUnavailableError
from .autoencoder import Autoencoder
from .catalogue import Entry
from .files.weights import SUFFIXES, load_strictly, read_state_dict
from .taef2 import SoftClamp

State = dict[str, torch.Tensor]
_STAGES = (3, 9, 15)  # of the decoder: three memory blocks, upsampling, frames, convolution
NATIVE_SIZE = 512


class MemoryBlock(nn.Module):
    """Residual block of three convolutions that also see the frame before; before the first there are zeros."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2 * inputs, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )  # fmt: skip
        self.skip = nn.Conv2d(inputs, width, 1, bias=False) if inputs != width else nn.Identity()

    def forward(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        """(B·frames, C, h, w), frames of a picture in a row."""
        before = F.pad(x.unflatten(0, (-1, frames)), (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1].flatten(0, 1)
        return F.relu(self.conv(torch.cat([x, before], 1)) + self.skip(x))


class Frames(nn.Module):
    """A 1×1 convolution between one frame and several; the channels of several are behind each other."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)


class FrameDecoder(nn.Module):
    """(B, C, h, w) -> (B, 3, H, W), nominally in [0, 1]: the last frame of what a latent decodes to."""

    def __init__(self, state: State):
        super().__init__()
        widths = [state[f"decoder.{i}.weight"].shape[0] for i in (1, 8, 14, 20)]
        self.patch = _patch(state["decoder.22.weight"].shape[0])
        layers: list[nn.Module] = [SoftClamp(), _conv(state, "decoder.1"), nn.ReLU()]
        for stage, width in zip(_STAGES, widths, strict=False):
            layers += [MemoryBlock(width, width) for _ in range(3)]
            layers += [
                nn.Upsample(scale_factor=2),
                _frames(state, f"decoder.{stage + 4}"),
                _conv(state, f"decoder.{stage + 5}"),
            ]
        self.decoder = nn.Sequential(*layers, nn.ReLU(), _conv(state, "decoder.22"))

    def keep_last_frame(self) -> None:
        """Behind the last memory block frames do not see each other: of its frames only the last one is made."""
        grow: Any = self.decoder[_STAGES[-1] + 4].conv
        grow.weight = nn.Parameter(grow.weight[-grow.in_channels :].detach().clone(), requires_grad=False)
        grow.out_channels = grow.in_channels

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        frames, x = 1, latents
        for i, layer in enumerate(self.decoder):
            if isinstance(layer, MemoryBlock):
                x = layer(x, frames)
                if i == _STAGES[-1] + 2:
                    x, frames = x.unflatten(0, (-1, frames))[:, -1], 1
            elif isinstance(layer, Frames):
                width = x.shape[1]
                x = layer.conv(x)
                frames *= x.shape[1] // width
                x = x.unflatten(1, (-1, width)).flatten(0, 1)
            else:
                x = layer(x)
        return F.pixel_shuffle(x, self.patch)


class FrameEncoder(nn.Module):
    """(B, 3, H, W) in [0, 1] -> (B, C, h, w): the latent of a clip that repeats the picture."""

    def __init__(self, state: State):
        super().__init__()
        self.patch = _patch(state["encoder.0.weight"].shape[1])
        layers: list[nn.Module] = [_conv(state, "encoder.0"), nn.ReLU()]
        for stage in (2, 7, 12):
            layers += [_frames(state, f"encoder.{stage}"), _conv(state, f"encoder.{stage + 1}", stride=2)]
            width = state[f"encoder.{stage + 1}.weight"].shape[0]
            layers += [MemoryBlock(width, width) for _ in range(3)]
        self.encoder = nn.Sequential(*layers, _conv(state, "encoder.17"))
        pools: list[Any] = [self.encoder[stage].conv for stage in (2, 7, 12)]
        self.frames: int = math.prod(pool.in_channels // pool.out_channels for pool in pools)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        frames, x = self.frames, F.pixel_unshuffle(images, self.patch).repeat_interleave(self.frames, 0)
        for layer in self.encoder:
            if isinstance(layer, MemoryBlock):
                x = layer(x, frames)
            elif isinstance(layer, Frames):
                pooled = layer.conv.in_channels // layer.conv.out_channels
                x, frames = layer.conv(x.unflatten(0, (-1, pooled)).flatten(1, 2)), frames // pooled
            else:
                x = layer(x)
        return x


def build_taehv(state: State, name: str, where: str, entry: Entry | None = None) -> Autoencoder:
    """An autoencoder of whatever widths a published state dict has. Raises `UsageError` for keys or shapes of another."""
    try:
        decoder, encoder = FrameDecoder(state), FrameEncoder(state)
    except KeyError as error:
        raise UsageError(f"{where} does not hold all of TAEHV; missing: {error.args[0]}") from error
    load_strictly(nn.ModuleDict({"both": nn.ModuleList([decoder, encoder])}), _renamed(state), where)
    decoder.keep_last_frame()
    return Autoencoder(
        decoder,
        encoder,
        name=name,
        latent_channels=state["decoder.1.weight"].shape[1],
        downscale_factor=8 * decoder.patch,
        value_range=(0.0, 1.0),
        native_size=entry.native_size if entry else NATIVE_SIZE,
        repository=entry.repository if entry else None,
    )


def load_taehv(entry: Entry, weights: Path | None, token: str | None = None, *, clips: bool = False) -> Autoencoder:
    """`weights` is the file, such as taew2_1.pth, or a folder that has it, .safetensors or .pth."""
    if clips:
        raise UsageError(f"{entry.name!r} decodes pictures, not clips; leave clips=True out")
    stem = entry.name
    if weights is not None and weights.is_dir():
        weights = next((path for s in SUFFIXES if (path := weights / f"{stem}{s}").is_file()), None)
    if weights is None:
        raise WeightsUnavailableError(
            f"{entry.name!r} is read from a file: give --weights {stem}.pth or .safetensors, or the folder that has it, from "
            f"https://github.com/{entry.repository}"
        )
    return build_taehv(read_state_dict(weights), entry.name, str(weights), entry)


def _renamed(state: State) -> State:
    return {f"both.{0 if key.startswith('decoder.') else 1}.{key}": value for key, value in state.items()}


def _patch(channels: int) -> int:
    return round((channels // 3) ** 0.5)


def _conv(state: State, key: str, stride: int = 1) -> nn.Conv2d:
    weight = state[f"{key}.weight"]
    return nn.Conv2d(weight.shape[1], weight.shape[0], 3, stride, padding=1, bias=f"{key}.bias" in state)


def _frames(state: State, key: str) -> Frames:
    weight = state[f"{key}.conv.weight"]
    return Frames(weight.shape[1], weight.shape[0])
