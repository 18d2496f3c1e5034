"""GroupNorms that normalise the tiles of a picture by the statistics of the whole of it."""

import torch
from torch import nn


class SharedGroupNorm(nn.GroupNorm):
    """nn.GroupNorm that normalises by the statistics of the last input that came while it was recording.

    Gradients do not pass through the statistics.
    """

    recording = True
    statistics: tuple[torch.Tensor, torch.Tensor]  # mean and 1/√(variance + eps), (B, groups) fp32

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.recording:
            grouped = x.detach().float().reshape(len(x), self.num_groups, -1)
            variance, mean = torch.var_mean(grouped, -1, correction=0)
            self.statistics = mean, (variance + self.eps).rsqrt()
        mean, rstd = (each.repeat_interleave(x.shape[1] // self.num_groups, 1) for each in self.statistics)
        scale = self.weight.float() * rstd  # (B, C)
        shift = self.bias.float() - mean * scale
        shape = (len(x), x.shape[1], *[1] * (x.ndim - 2))
        return (x.float() * scale.view(shape) + shift.view(shape)).to(x.dtype)


def share_norms(decoder: nn.Module) -> nn.Module:
    """Make the GroupNorms of a decoder `SharedGroupNorm`s, in place, and return it."""
    for module in decoder.modules():
        if isinstance(module, nn.GroupNorm) and module.affine:
            module.__class__ = SharedGroupNorm  # keeps whoever holds it
    return decoder


def set_recording(decoder: nn.Module, recording: bool) -> None:
    """Say whether the GroupNorms of a decoder record statistics or use those that they have."""
    for module in decoder.modules():
        if isinstance(module, SharedGroupNorm):
            module.recording = recording
