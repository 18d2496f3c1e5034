"""The decoder of an AutoencoderKL whose sums are made by the norm kernels that read them.

A residual block ends in a sum of its input, a convolution and that convolution's bias, and the next block begins with a
norm of it. Here the sum is passed on unmade: the norm's first kernel makes it on its way, and its backward kernel adds
the residual's gradient. Biases before a norm never cost a pass of their own.
"""

from typing import Any, NamedTuple

import torch
from torch import nn

from ...kernels.group_norm_silu import group_norm_silu
from ...kernels.library import channels_last
from .attention import SpatialAttention


class Sum(NamedTuple):
    """The activation x + shift + residual, not yet added up."""

    x: torch.Tensor  # (B, C, H, W)
    shift: torch.Tensor | None = None  # (C,)
    residual: torch.Tensor | None = None  # like x

    def value(self) -> torch.Tensor:
        """Return it added up."""
        total = self.x if self.shift is None else self.x + self.shift.view(1, -1, 1, 1)
        return total if self.residual is None else total + self.residual


class JoinedDecoder(nn.Module):
    """Replaces the `forward` of diffusers' `Decoder`; children and their names stay as they are."""

    def forward(self, sample: torch.Tensor, latent_embeds: None = None) -> torch.Tensor:
        parts: Any = self
        mid = parts.mid_block
        hidden = _block(mid.resnets[0], _convolve(parts.conv_in, sample))
        for attention, block in zip(mid.attentions, mid.resnets[1:], strict=True):
            if isinstance(attention, SpatialAttention):
                inside, total = _norm(attention.group_norm, hidden, keep=True)
                hidden = Sum(attention.mix(inside), attention.shift, total)
            elif attention is not None:
                hidden = Sum(attention(hidden.value()))
            hidden = _block(block, hidden)
        for up in parts.up_blocks:
            for block in up.resnets:
                hidden = _block(block, hidden)
            for upsampler in up.upsamplers or ():
                hidden = _convolve(upsampler, hidden.value())
        result: torch.Tensor = parts.conv_out(_norm(parts.conv_norm_out, hidden)[0])
        return result


def join_residuals(decoder: nn.Module) -> int:
    """Sums before the norms of diffusers' decoder are made by the Triton kernel; after `join_norm_and_silu`."""
    changed = 0
    for module in decoder.modules():
        if type(module).__name__ == "Decoder" and _is_known(module):
            module.__class__ = type("Decoder", (JoinedDecoder, type(module)), {})
            changed += 1
    return changed


def _is_known(decoder: Any) -> bool:
    """Whether it is made of the blocks that `JoinedDecoder` runs, with the norms that `join_norm_and_silu` makes."""
    mid: Any = getattr(decoder, "mid_block", None)
    ups: Any = getattr(decoder, "up_blocks", ())
    if not (hasattr(mid, "attentions") and hasattr(mid, "resnets") and all(hasattr(up, "upsamplers") for up in ups)):
        return False
    blocks = [*mid.resnets, *(block for up in ups for block in up.resnets)]
    norms = [decoder.conv_norm_out, *(norm for block in blocks for norm in (block.norm1, block.norm2))]
    norms += [each.group_norm for each in mid.attentions if isinstance(each, SpatialAttention)]
    return (
        len(mid.attentions) + 1 == len(mid.resnets)
        and not any(hasattr(up, "attentions") for up in ups)
        and all(type(norm).__name__ == "GroupNormSiLU" for norm in norms)
        and all(getattr(block, "output_scale_factor", 1.0) == 1.0 for block in blocks)
        and not any(getattr(block, name, None) for block in blocks for name in ("upsample", "downsample"))
    )


def _block(block: Any, hidden: Sum) -> Sum:
    """A `ResnetBlock2D`: its input's sum is made by the first norm, its output's is left to what follows."""
    inside, total = _norm(block.norm1, hidden, keep=True)
    inside, _ = _norm(block.norm2, _convolve(block.conv1, inside))
    outside = _convolve(block.conv2, inside)
    if block.conv_shortcut is None:
        return outside._replace(residual=total)
    short = _convolve(block.conv_shortcut, total)
    shifts = [shift for shift in (outside.shift, short.shift) if shift is not None]
    return Sum(outside.x, sum(shifts[1:], shifts[0]) if shifts else None, short.x)


def _convolve(convolution: Any, x: torch.Tensor) -> Sum:
    """A frozen convolution with its bias apart, or what another module makes of x."""
    if hasattr(convolution, "without_bias"):
        return Sum(convolution.without_bias(x), convolution.bias)
    return Sum(convolution(x))


def _norm(norm: Any, hidden: Sum, keep: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The normed and activated sum, and the sum itself where it has a residual, or with `keep`."""
    x, residual = hidden.x.contiguous(memory_format=channels_last(4)), hidden.residual
    residual = residual if residual is None else residual.contiguous(memory_format=channels_last(4))
    return group_norm_silu(
        x, norm.weight, norm.bias, norm.groups, norm.eps, residual, shift=hidden.shift, silu=norm.silu, keep=keep
    )
