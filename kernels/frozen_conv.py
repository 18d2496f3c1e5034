"""Convolution with frozen weights: what it keeps for the backward pass is its weight, not its input.

    out = x ∗ w + b    ∂x = ∂out ∗ᵀ w

torch's own convolution keeps its input for the backward pass even where only ∂x is asked for, and so does the graph that
torch.compile makes of it: as many bytes as all the activations between the convolutions.

The backward pass may also be a low-rank approximation, in which a weight of fewer channels takes part of ∂out back:
    ∂x ≈ expand · ((project · ∂out) ∗ᵀ reduced)

At stride 1, ∗ᵀ w is a convolution as well, with w turned in space and its two axes of channels exchanged; given such a
weight, the backward pass runs the kernels of the forward pass.
"""

import torch
import torch.nn.functional as F

from .library import kernel_op

CONVOLVE = {4: F.conv2d, 5: F.conv3d}  # by the rank of the input
TRANSPOSED = {4: F.conv_transpose2d, 5: F.conv_transpose3d}


def _convolve(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: int, padding: int, transposed: bool,
    project: torch.Tensor | None, reduced: torch.Tensor | None, expand: torch.Tensor | None, turned: bool,
) -> torch.Tensor:  # fmt: skip
    convolve = TRANSPOSED[x.ndim] if transposed else CONVOLVE[x.ndim]
    return convolve(x, weight, bias, stride=stride, padding=padding)


def _save(ctx, inputs, output):
    x, weight, _, ctx.stride, ctx.padding, ctx.transposed, project, reduced, expand, ctx.turned = inputs
    ctx.shape = x.shape
    ctx.save_for_backward(weight if reduced is None else reduced, project, expand)


def _backward(ctx, grad):
    weight, project, expand = ctx.saved_tensors
    convolve = CONVOLVE[grad.ndim]
    if project is not None:
        grad = convolve(grad, project)
    if ctx.transposed:
        result = convolve(grad, weight, stride=ctx.stride, padding=ctx.padding)
    elif ctx.turned:
        result = convolve(grad, weight, padding=[side - 1 - ctx.padding for side in weight.shape[2:]])
    else:
        missing = [  # rows and columns at the end that no output value reaches fully
            side - ((out - 1) * ctx.stride - 2 * ctx.padding + kernel)
            for side, out, kernel in zip(ctx.shape[2:], grad.shape[2:], weight.shape[2:], strict=True)
        ]
        result = TRANSPOSED[grad.ndim](grad, weight, stride=ctx.stride, padding=ctx.padding, output_padding=missing)
    if expand is not None:
        result = convolve(result, expand)
    return result, *[None] * 9


_frozen_conv = kernel_op("frozen_conv", launches=False)(_convolve)
_frozen_conv.register_autograd(_backward, setup_context=_save)


class _EagerFrozenConv(torch.autograd.Function):
    """The operation for eager code, without the dispatch of a registered operator, which costs 0.1 ms a call outside compiled code.

    One method makes the output and keeps what the backward pass needs: where they are two, torch inspects the signature
    in each call, for another 0.2 ms.
    """

    @staticmethod
    def forward(ctx, *inputs):
        output = _convolve(*inputs)
        _save(ctx, inputs, output)
        return output

    backward = staticmethod(_backward)


def turn(weight: torch.Tensor) -> torch.Tensor:
    """(O, I, *kernel) -> (I, O, *kernel), turned in space: the weight of the gradient of a convolution of stride 1."""
    return weight.transpose(0, 1).flip(tuple(range(2, weight.ndim)))


def frozen_conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    transposed: bool = False,
    project: torch.Tensor | None = None,
    reduced: torch.Tensor | None = None,
    expand: torch.Tensor | None = None,
    turned: bool = False,
) -> torch.Tensor:
    """A convolution over two or three spatial axes, transposed or not, on any device; differentiable in x alone.

    x: (B, I, *spatial). weight: (O, I, *kernel), or (I, O, *kernel) where transposed; bias: (O,). Both frozen: raises
    `ValueError` if they are not, or for another number of spatial axes.
    For a low-rank approximate backward pass: reduced, like weight with r for O and s for I; project: (r, O, 1, 1), None
    for r = O; expand: (I, s, 1, 1), None for s = I.
    turned: `reduced` is `turn` of such a weight, for convolutions of stride 1 whose padding is less than the kernel.
    """
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        raise ValueError("frozen_conv: weight and bias must be frozen; use requires_grad_(False) on the module")
    if x.ndim not in CONVOLVE:
        raise ValueError(f"frozen_conv: expected (B, C, H, W) or (B, C, D, H, W), found {tuple(x.shape)}")
    call = _frozen_conv if torch.compiler.is_compiling() else _EagerFrozenConv.apply
    return call(x, weight, bias, stride, padding, transposed, project, reduced, expand, turned)
