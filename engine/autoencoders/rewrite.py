"""A frozen decoder rewritten for the loop: the same function, cheaper to run forwards and backwards.

Each rewrite is exact but for rounding and replaces modules of a copy; what a rewrite does not know it leaves alone. A
new one is a function that changes the module in place and returns how many places it changed, and a line in `REWRITES`.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

from ...kernels.frozen_norm import frozen_norm
from ...kernels.group_norm_silu import group_norm_silu
from ...kernels.library import channels_last, runs_on
from ...kernels.upsample_conv import phase_weight
from .attention import SpatialAttention, explicit_attention
from .frozen_conv import Factors, FrozenConv
from .joined_decoder import join_residuals

LowRankFactors = dict[
    str, tuple[Factors | None, Factors | None]
]  # module's name -> what `FrozenConv.set_low_rank` takes


@dataclass(frozen=True)
class LowRank:
    """A low-rank approximate backward pass; see `calibration/low_rank_backward.py`."""

    key: str  # what the factors were made from: equal keys, equal factors
    factors: LowRankFactors


class FrozenGroupNorm(nn.GroupNorm):
    """nn.GroupNorm of frozen weights."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return frozen_norm(x, self.weight, self.bias, self.num_groups, self.eps)


class FoldedInput(nn.Module):
    """A 1×1 convolution and the 3×3 one after it. The first's bias enters through a channel of ones, so that the zero
    padding between the two stays what it was."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d):
        super().__init__()
        mix = first.weight.detach()[:, :, 0, 0].double()
        offset = first.bias.detach().double() if first.bias is not None else mix.new_zeros(len(mix))
        both = torch.cat([mix, offset[:, None]], 1)
        weight = torch.einsum("omhw,mi->oihw", second.weight.detach().double(), both).to(second.weight.dtype)
        self.conv = FrozenConv(weight, second.bias, 1, 1, False)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.cat([z, torch.ones_like(z[:, :1])], 1))


class GroupNormSiLU(nn.Module):
    """GroupNorm followed by SiLU, or without `silu` alone, by the Triton kernel."""

    def __init__(self, norm: nn.GroupNorm, silu: bool = True):
        super().__init__()
        self.weight, self.bias, self.silu = norm.weight, norm.bias, silu
        self.groups, self.eps = norm.num_groups, norm.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous(memory_format=channels_last(x.ndim))
        return group_norm_silu(x, self.weight, self.bias, self.groups, self.eps, silu=self.silu)[0]


def fold_upsampling(decoder: nn.Module) -> int:
    """Nearest ×2 and the 3×3 convolution after it become one transposed convolution on the small input."""
    changed = 0
    for module in decoder.modules():
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                before, after = module[i], module[i + 1]
                if _doubles(before) and _is_plain(after, 3, 1):
                    module[i], module[i + 1] = nn.Identity(), _transposed(after)
                    changed += 1
    for parent, name, module in _children(decoder):
        if _is_diffusers_upsample(module):
            setattr(parent, name, _transposed(module.conv))  # type: ignore[arg-type]
            changed += 1
    return changed


def fold_input(decoder: nn.Module) -> int:
    """The post-quantisation convolution of an AutoencoderKL is folded into the decoder's first."""
    first: Any = getattr(decoder, "post_quant_conv", None)
    inner: Any = getattr(decoder, "decoder", None)
    second: Any = getattr(inner, "conv_in", None)
    if not (_is_plain(first, 1, 0) and _is_plain(second, 3, 1)):
        return 0
    inner.conv_in = FoldedInput(first, second)
    decoder.post_quant_conv = nn.Identity()
    return 1


def fold_batch_norms(decoder: nn.Module) -> int:
    """A convolution, transposed or not, and the BatchNorm after it become one convolution: running statistics are constants."""
    changed = 0
    for module in decoder.modules():
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                before, after = module[i], module[i + 1]
                if isinstance(after, nn.modules.batchnorm._BatchNorm) and after.running_var is not None:
                    if isinstance(before, nn.Conv2d | nn.Conv3d):
                        module[i] = fuse_conv_bn_eval(before, after)
                    elif isinstance(before, nn.ConvTranspose2d | nn.ConvTranspose3d):
                        module[i] = fuse_conv_bn_eval(before, after, transpose=True)
                    else:
                        continue
                    module[i + 1] = nn.Identity()
                    changed += 1
    return changed


def freeze_convolutions(decoder: nn.Module) -> int:
    """Replace plain convolutions by ones that do not keep their inputs for the backward pass."""
    changed = 0
    module: Any
    for parent, name, module in _children(decoder):
        transposed = type(module) is nn.ConvTranspose3d and set(module.output_padding) == {0} and _is_regular(module)
        if transposed or _is_plain(module):
            weight, bias = module.weight, module.bias
            setattr(parent, name, FrozenConv(weight, bias, module.stride[0], int(module.padding[0]), transposed))
            changed += 1
    return changed


def turn_convolutions(decoder: nn.Module) -> int:
    """The gradients of frozen convolutions of stride 1 become convolutions too, for twice the memory of their weights."""
    return sum(module.turn() for module in decoder.modules() if isinstance(module, FrozenConv))


def freeze_norms(decoder: nn.Module) -> int:
    """Let GroupNorms compute their gradient in fp32 where that is faster."""
    changed = 0
    for module in decoder.modules():
        if type(module) is nn.GroupNorm and module.affine:
            module.__class__ = FrozenGroupNorm  # keeps whoever holds it
            changed += 1
    return changed


PICTURE_DECODERS = ("Decoder", "MaskConditionDecoder")  # of diffusers


def join_norm_and_silu(decoder: nn.Module) -> int:
    """GroupNorm and SiLU of diffusers' residual blocks and of the decoder's end become the Triton kernel, and the norm
    before attention that `explicit_attention` has written out."""
    changed = 0
    module: Any
    for module in decoder.modules():
        if type(module).__name__ == "ResnetBlock2D" and isinstance(module.nonlinearity, nn.SiLU):
            if module.time_emb_proj is None and module.time_embedding_norm in ("default", "group"):
                module.norm1, module.norm2 = GroupNormSiLU(module.norm1), GroupNormSiLU(module.norm2)
                module.nonlinearity = nn.Identity()
                changed += 2
        elif (
            isinstance(getattr(module, "conv_act", None), nn.SiLU)
            and isinstance(getattr(module, "conv_norm_out", None), nn.GroupNorm)
            and type(module).__name__ in PICTURE_DECODERS  # the kernel does not take videos
        ):
            module.conv_norm_out, module.conv_act = GroupNormSiLU(module.conv_norm_out), nn.Identity()
            changed += 1
        elif isinstance(module, SpatialAttention) and isinstance(module.group_norm, nn.GroupNorm):
            module.group_norm = GroupNormSiLU(module.group_norm, silu=False)
            changed += 1
    return changed


class Recompute(nn.Module):
    """A block whose activations are recomputed in the backward pass instead of being kept."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return checkpoint(self.block, *arguments, use_reentrant=False, preserve_rng_state=False, **options)


def recompute_blocks(decoder: nn.Module) -> int:
    """Residual blocks keep their input only: half the memory of Stable Diffusion's decoder (968 to 453 MB at 256² in
    fp32, CPU), for a second forward pass. torch.compile undoes it, so the engine runs it eagerly."""
    changed = 0
    for parent, name, module in _children(decoder):
        if type(module).__name__ in RECOMPUTED:
            setattr(parent, name, Recompute(module))
            changed += 1
    return changed


RECOMPUTED = (  # residual blocks of diffusers' families, TAEF2 and TAEHV
    "ResnetBlock2D", "AutoencoderTinyBlock", "WanResidualBlock", "QwenImageResidualBlock", "QwenImage21ResidualBlock",
    "HunyuanImageResnetBlock", "KVAEResnetBlock2D", "ResBlock", "EfficientViTBlock", "Block", "MemoryBlock",
)  # fmt: skip

REWRITES: dict[str, Callable[[nn.Module], int]] = {
    "fold_input": fold_input,
    "fold_upsampling": fold_upsampling,
    "fold_batch_norms": fold_batch_norms,
    "freeze_convolutions": freeze_convolutions,
    "turn_convolutions": turn_convolutions,  # after freeze_convolutions
    "freeze_norms": freeze_norms,
    "explicit_attention": explicit_attention,
    "join_norm_and_silu": join_norm_and_silu,  # needs Triton
    "join_residuals": join_residuals,  # needs Triton, and join_norm_and_silu before it
    "recompute_blocks": recompute_blocks,  # last: it hides the blocks from the others
}
TRITON = ("join_norm_and_silu", "join_residuals")
DEFAULT_REWRITES = ("fold_input", "fold_upsampling", "freeze_convolutions", "freeze_norms")
# in 16 bits, see `calibration/fast_rewrites.py`: on a CPU, where the products of attention written out take a third of the
# time of scaled_dot_product_attention (in fp32 as long as it), and on a GPU
CPU_REWRITES = (*DEFAULT_REWRITES, "explicit_attention")
ENCODER_REWRITES = ("explicit_attention",)  # in 16 bits; the others serve the gradient
FAST_REWRITES = (*DEFAULT_REWRITES, "turn_convolutions", "explicit_attention", "join_norm_and_silu", "join_residuals")


def prepare(
    decoder: nn.Module,
    dtype: torch.dtype,
    rewrites: tuple[str, ...] = DEFAULT_REWRITES,
    low_rank: LowRankFactors | None = None,
) -> nn.Module:
    """Return a rewritten copy in `dtype` and channels-last. Weights are folded before they are rounded to `dtype`.

    low_rank: of a rewritten copy's convolutions, see `calibration/low_rank_backward.py`; None: the backward pass is exact.
    """
    device = next((p.device for p in decoder.parameters()), torch.device("cpu"))
    decoder = copy.deepcopy(decoder)
    last = [name for name in rewrites if name == "recompute_blocks"]  # which changes the modules' names
    for name in rewrites:
        if name in last or (name in TRITON and not runs_on(device)) or (name == "join_residuals" and last):
            continue  # a joined decoder runs the inside of blocks, which recomputing would hide
        REWRITES[name](decoder)
    for name, factors in (low_rank or {}).items():
        decoder.get_submodule(name).set_low_rank(*factors)  # type: ignore[operator]
    for name in last:
        REWRITES[name](decoder)
    decoder = decoder.to(dtype)
    for tensor in (*decoder.parameters(), *decoder.buffers()):
        if tensor.ndim in (4, 5):  # by each weight's own rank: `Module.to(memory_format=…)` takes one for all of them
            tensor.data = tensor.data.to(memory_format=channels_last(tensor.ndim))
    return decoder


def _children(root: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for parent in list(root.modules()):
        for name, module in list(parent.named_children()):
            yield parent, name, module


def _is_plain(module: object, kernel: int | None = None, padding: int | None = None) -> TypeGuard[nn.Conv2d]:
    """An nn.Conv2d or nn.Conv3d, no subclass, with one group, no dilation, zero padding and equal sides; where a kernel's
    or a padding's side is asked for, an nn.Conv2d."""
    return (
        (type(module) is nn.Conv2d or (type(module) is nn.Conv3d and kernel is None and padding is None))
        and _is_regular(module)
        and (kernel is None or (module.kernel_size == (kernel, kernel) and module.stride == (1, 1)))
        and (padding is None or module.padding == (padding, padding))
    )


def _is_regular(module: Any) -> bool:
    """Whether a convolution has one group, no dilation, zero padding and equal sides."""
    return (
        module.groups == 1
        and set(module.dilation) == {1}
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and len(set(module.stride)) == len(set(module.padding)) == 1
    )


def _doubles(module: object) -> bool:
    return type(module) is nn.Upsample and module.mode == "nearest" and module.scale_factor in (2, 2.0)


def _is_diffusers_upsample(module: nn.Module) -> bool:
    return (
        type(module).__name__ == "Upsample2D"
        and getattr(module, "interpolate", False)
        and getattr(module, "norm", None) is None
        and _is_plain(getattr(module, "conv", None), 3, 1)
    )


def _transposed(conv: nn.Conv2d) -> FrozenConv:
    return FrozenConv(phase_weight(conv.weight.detach()), conv.bias, 2, 1, True)
