"""Networks in fixed-point arithmetic: the same bits whatever the threads, the batch, the tiles or the process.

Coder and decoder must derive the same tables and the same means, or every later symbol is lost. Floating-point convolutions do
not give that: their sums depend on the order, which depends on threads and library. Here weights are integers in units of 2⁻¹⁶
and activations integers in units of 2⁻¹², both held in float64. `FixedConvolution` refuses weights for which a sum could reach
2⁵³, so every product and every partial sum is an integer that float64 holds exactly: any order gives the same result. The steps
between (multiplying by a power of two, floor, clamp, the rectifier) are exact too.

Exact on a CPU, as float64 convolutions there are plain sums of products. A GPU's library may choose a transform-domain
algorithm, whose intermediate values are no integers, so these networks stay on the CPU.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import CodecModelError
from ..model.layers import SLOPE, Residual

WEIGHT_UNIT = 2.0**-16
UNIT = 2.0**-12  # of activations
LARGEST_ACTIVATION = 2.0**26  # in units: 16384
EXACT = 2.0**53  # float64 holds every integer below
TILE = 1 << 22  # elements of the columns that one tile unfolds: 32 MiB

Layer = Callable[[Tensor], Tensor]


def _limited(x: Tensor) -> Tensor:
    return x.clamp_(-LARGEST_ACTIVATION, LARGEST_ACTIVATION)


class FixedConvolution:
    """A convolution from integers to integers, computed in strips of rows so that the memory is bounded."""

    def __init__(self, name: str, source: nn.Conv2d) -> None:
        weight = source.weight.detach().to("cpu", torch.float64)
        bias = source.bias.detach().to("cpu", torch.float64)  # type: ignore[union-attr]  # all convolutions here have one
        self.weight = torch.floor(weight / WEIGHT_UNIT + 0.5)
        self.bias = torch.floor(bias / (WEIGHT_UNIT * UNIT) + 0.5)
        most = self.weight.abs().flatten(1).sum(1) * LARGEST_ACTIVATION + self.bias.abs()
        if not bool((most < EXACT / 2).all()):  # also refuses NaN
            raise CodecModelError(
                f"{name} has weights that are too large or not finite for the coder; train with a lower learning rate"
            )
        self.kernel, self.stride, self.padding = source.kernel_size[0], source.stride[0], int(source.padding[0])

    def __call__(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h/stride, w/stride), both in units of 2⁻¹²."""
        batch, channels, height, width = x.shape
        rows, columns = ((size + 2 * self.padding - self.kernel) // self.stride + 1 for size in (height, width))
        x = functional.pad(x, [self.padding] * 4)
        result = torch.empty(batch, len(self.weight), rows, columns, dtype=torch.float64)
        strip = max(1, TILE // (batch * channels * self.kernel**2 * columns))
        for first in range(0, rows, strip):
            last = min(first + strip, rows)
            part = x[:, :, first * self.stride : (last - 1) * self.stride + self.kernel]
            sums = functional.conv2d(part, self.weight, self.bias, self.stride)
            result[:, :, first:last] = _limited(sums.mul_(WEIGHT_UNIT).add_(0.5).floor_())
        return result


class _FixedResidual:
    def __init__(self, name: str, source: Residual) -> None:
        self.body = FixedNetwork(f"{name}.body", source.body)

    def __call__(self, x: Tensor) -> Tensor:
        return _limited(self.body(x) + x)


def _rectify(x: Tensor) -> Tensor:
    return torch.maximum(x, torch.floor(x * SLOPE + 0.5))


class FixedNetwork:
    """A sequence of the layers of `model.layers` in fixed point; input and output are integers in units of 2⁻¹²."""

    def __init__(self, name: str, source: nn.Sequential) -> None:
        self.layers: list[Layer] = [_fixed(f"{name}.{i}", layer) for i, layer in enumerate(source)]

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, h, w) float64 of integers to the network's output, likewise."""
        with torch.inference_mode():
            for layer in self.layers:
                x = layer(x)
        return x


def _fixed(name: str, layer: nn.Module) -> Layer:
    if isinstance(layer, nn.Conv2d):
        return FixedConvolution(name, layer)
    if isinstance(layer, nn.LeakyReLU):
        return _rectify
    if isinstance(layer, Residual):
        return _FixedResidual(name, layer)
    if isinstance(layer, nn.PixelShuffle):
        return layer
    raise TypeError(f"{name} is a {type(layer).__name__}, which has no fixed-point form; expected one of model.layers")
