"""`SpatialAttention`: self-attention of one head over all places of a picture, of frozen weights, written out.

    h = norm(x)    out = x + softmax((h Wq + b) (h Wk)ᵀ/√C) (h Wv Wo) + (bv Wo + bo)

A head of 512 channels, which Stable Diffusion's decoder has, is too large for the fast kernels of
`scaled_dot_product_attention`. The key's bias adds the same to all scores of a row, which softmax does not see; the
rows of a softmax sum to 1, so the value's bias passes through; and the value and the output are one product.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...kernels.library import channels_last

# Bytes of scores up to which they are written out: 32 pictures of 512², or 2 of 1024², in bf16. The backward pass has three
# such tensors at once, where the activations of the picture's full size, 2.1 and 1.4 GB per GB of scores, are gone.
MOST_SCORES = 2**30


class SpatialAttention(nn.Module):
    """(B, C, H, W) -> the same shape. The softmax is computed in fp32 whatever the type; scores and weights are rounded to it."""

    def __init__(self, group_norm: nn.Module, weight: torch.Tensor, bias: torch.Tensor, shift: torch.Tensor):
        """weight: (3 C, C), those of query, key and value, with bias: (3 C,); shift: (C,), of the output."""
        super().__init__()
        self.group_norm = group_norm
        self.weight, self.bias, self.shift = (nn.Parameter(each, requires_grad=False) for each in (weight, bias, shift))

    def forward(self, x: torch.Tensor, temb: None = None) -> torch.Tensor:
        return x + (self.mix(self.group_norm(x)) + self.shift.view(1, -1, 1, 1))

    def mix(self, h: torch.Tensor) -> torch.Tensor:
        """Return what the attention adds to its input, without the shift, for the normed input (B, C, H, W); channels-last."""
        h = h.contiguous(memory_format=channels_last(4))
        batch, channels, height, width = h.shape
        tokens = h.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        query, key, value = F.linear(tokens, self.weight, self.bias).chunk(3, -1)
        if batch * tokens.shape[1] ** 2 * h.element_size() <= MOST_SCORES:
            mixed = attend(query, key, value)
        else:
            query, key, value = (each.unsqueeze(1) for each in (query, key, value))
            mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0).squeeze(1)
        return mixed.view(batch, height, width, channels).permute(0, 3, 1, 2)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention written out, of (B, N, C) tensors; the query is scaled already: the compiler's patterns of attention with its
    gradient, which put scaled_dot_product_attention back, all have a scale or a dropout between the products."""
    return torch.bmm(torch.softmax(torch.bmm(query, key.transpose(1, 2)), -1), value)


def explicit_attention(decoder: nn.Module) -> int:
    """Self-attention of one head in the middle of diffusers' decoders and encoders of pictures is written out where its
    scores are not too large."""
    changed = 0
    for block in decoder.modules():
        if type(block).__name__ == "UNetMidBlock2D":  # blocks of videos give theirs a mask too
            attentions: Any = block.attentions
            for number, attention in enumerate(attentions):
                if type(attention).__name__ == "Attention" and _is_known(attention):
                    attentions[number] = _written_out(attention)
                    changed += 1
    return changed


def _is_known(attention: Any) -> bool:
    """Whether it is self-attention of one head and nothing more: a norm, four linear layers, a residual connection."""
    absent = ("spatial_norm", "norm_q", "norm_k", "norm_cross", "added_kv_proj_dim")
    return (
        attention.heads == 1
        and attention.residual_connection
        and attention.rescale_output_factor == 1.0
        and isinstance(attention.group_norm, nn.GroupNorm)
        and not any(getattr(attention, name, None) for name in absent)
        and all(
            type(layer) is nn.Linear for layer in (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0])
        )
        and attention.to_k.in_features == attention.to_q.in_features
    )


def _written_out(attention: Any) -> SpatialAttention:
    layers = (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0])
    query, key, value, out = (layer.weight.detach().double() for layer in layers)
    biases = (
        layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias.detach() for layer in layers
    )
    query_bias, _, value_bias, out_bias = (bias.double() for bias in biases)
    scale, like = len(query) ** -0.5, attention.to_q.weight
    return SpatialAttention(
        attention.group_norm,
        torch.cat([scale * query, key, out @ value]).to(like),
        torch.cat([scale * query_bias, torch.zeros_like(query_bias).repeat(2)]).to(like),
        (out @ value_bias + out_bias).to(like),
    )
