"""The imposed ranks of a thinned backward pass."""

import torch
from torch import nn

from ....engine.autoencoders.frozen_conv import FrozenConv
from ....engine.autoencoders.rewrite import LowRank, prepare

THINNED_FROM = 16  # channels: convolutions with fewer, the first and the last one, keep theirs


def impose_ranks(decoder: nn.Module, rewrites: tuple[str, ...]) -> LowRank:
    """Return a low-rank backward pass in which each 3×3 convolution of enough channels keeps half of them.

    Random weights spread gradients over all channels: ranks cannot be measured on them, only what ranks would save.
    """
    kept = tuple(name for name in rewrites if name != "join_residuals")  # it changes no names
    factors = {
        name: tuple(_half(channels) for channels in (len(module.weight), module.weight.shape[1]))
        for name, module in prepare(decoder, torch.float32, kept).named_modules()
        if isinstance(module, FrozenConv) and not module.transposed and module.weight.shape[2] == 3
        and min(module.weight.shape[:2]) >= THINNED_FROM
    }  # fmt: skip
    return LowRank("half of the channels", factors)  # type: ignore[arg-type]


def _half(channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.eye(channels // 2, channels), torch.eye(channels, channels // 2)
