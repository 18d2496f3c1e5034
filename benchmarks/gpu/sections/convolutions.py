"""Section: each distinct convolution of Stable Diffusion's decoder at 512², forward and gradient, in every way to run it.

Ways: the gradient as autograd's or as a convolution with the flipped weight; a convolution of the upsampled input or a
strided transposed one of the small input; channels as they are or padded to a multiple of 8; cuDNN tuned or not.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ....engine.runtime.cuda_flags import in_new_thread
from ....kernels.frozen_conv import turn
from ....kernels.upsample_conv import phase_weight
from ...sd_decoder import SDDecoder, Upsample2D, widths
from ...timing import measure
from ..section import Measurement, Rates, Result

NEEDS_GPU = ""
TOLERANCE = 2e-2  # of the norm, in bf16, between two ways
Shape = tuple[int, int, int, int, bool]  # channels in and out, kernel, side of the input, whether upsampled first
Ways = dict[str, Callable[[], torch.Tensor]]  # the first of those of one kind is the reference


def cells(quick: bool) -> list[tuple[str, float, dict[str, Any]]]:
    return [(f"batch {batch}", seconds, {"batch": batch}) for batch, seconds in ([(1, 1.0)] if quick else [(8, 40.0), (1, 25.0)])]  # fmt: skip


def prepare(device: torch.device, quick: bool, batch: int) -> Measurement:
    size = 32 if quick else 512
    found = shapes(*widths(quick), size)

    def measurement(rates: Rates) -> Result:
        rows = []
        for shape, count in found.items():
            for kind, ways in _ways(shape, batch, device).items():
                rows.append(_row(shape, batch, kind, ways, device, rates) | {"in_the_decoder": count})
        return {"batch": batch, "size": size, "rows": rows}

    return measurement


def shapes(channels: tuple[int, ...], groups: int, size: int) -> Counter[Shape]:
    """Return the decoder's convolutions and how often each occurs, for pictures of `size` pixels."""
    decoder = SDDecoder(channels=channels, groups=groups).to("meta")
    upsampling = {id(module.conv) for module in decoder.modules() if isinstance(module, Upsample2D)}
    found: Counter[Shape] = Counter()

    def watch(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(module, nn.Conv2d)
        up = id(module) in upsampling
        side = inputs[0].shape[-1] // (2 if up else 1)
        found[module.in_channels, module.out_channels, module.kernel_size[0], side, up] += 1

    for module in decoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(watch)
    decoder(torch.empty(1, 4, size // 8, size // 8, device="meta"))
    return found


def _ways(shape: Shape, batch: int, device: torch.device) -> dict[str, Ways]:
    """Return the ways to compute the forward pass and the gradient of the input."""
    inside, outside, kernel, side, up = shape

    def random(*sizes: int, scale: float = 1.0) -> torch.Tensor:
        x = torch.randn(*sizes, device=device, dtype=torch.bfloat16) * scale
        return x.contiguous(memory_format=torch.channels_last)

    weight = random(outside, inside, kernel, kernel, scale=(inside * kernel**2) ** -0.5)
    x, pad = random(batch, inside, side, side), kernel // 2
    gradient = random(batch, outside, side * (1 + up), side * (1 + up))
    if up:
        return _upsampled(x, weight, gradient)
    flipped = _last(turn(weight))
    forward: Ways = {"as it is": lambda: F.conv2d(x, weight, padding=pad)}
    backward: Ways = {
        "autograd": lambda: _input_gradient(gradient, x, weight, pad),
        "flipped": lambda: F.conv2d(gradient, flipped, padding=kernel - 1 - pad),
    }
    more_in, more_out = -inside % 8, -outside % 8
    if more_in or more_out:
        wide_x, wide_gradient = _pad(x, more_in), _pad(gradient, more_out)
        wide = _last(F.pad(weight, (0, 0, 0, 0, 0, more_in, 0, more_out)))
        wide_flipped = _last(turn(wide))
        forward["padded"] = lambda: F.conv2d(wide_x, wide, padding=pad)[:, :outside]
        backward["flipped, padded"] = lambda: F.conv2d(wide_gradient, wide_flipped, padding=kernel - 1 - pad)[
            :, :inside
        ]
    return {"forward": forward, "gradient": backward}


def _upsampled(x: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor) -> dict[str, Ways]:
    phases = _last(phase_weight(weight))
    leaf = x.detach().requires_grad_(True)
    with torch.enable_grad():
        y = F.conv2d(F.interpolate(leaf, scale_factor=2.0, mode="nearest"), weight, padding=1)
    return {
        "forward": {
            "upsampled input": lambda: F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, padding=1),
            "strided transposed": lambda: F.conv_transpose2d(x, phases, stride=2, padding=1),
        },
        "gradient": {
            "upsampled input": lambda: torch.autograd.grad(y, leaf, gradient, retain_graph=True)[0],
            "strided transposed": lambda: F.conv2d(gradient, phases, stride=2, padding=1),
        },
    }


def _row(shape: Shape, batch: int, kind: str, ways: Ways, device: torch.device, rates: Rates) -> Result:
    inside, outside, kernel, side, up = shape
    flops = 2 * batch * inside * outside * kernel**2 * (side * (1 + up)) ** 2
    row: Result = {
        "shape": {"in": inside, "out": outside, "kernel": kernel, "side": side, "upsampled": up},
        "pass": kind, "nominal_flops": flops, "seconds": {}, "difference": {},
    }  # fmt: skip
    expected = next(iter(ways.values()))()

    def run(name: str, tuned: bool) -> None:
        with torch.backends.cudnn.flags(enabled=True, benchmark=tuned, deterministic=False, allow_tf32=True):
            found = ways[name]()
            difference = ((found.float() - expected.float()).norm() / expected.float().norm()).item()
            row["difference"][name] = difference
            if not difference <= TOLERANCE:
                row["wrong"] = name
            else:
                seconds = measure(ways[name], device, repeats=10)
                row["seconds"][f"{name}, tuned" if tuned else name] = seconds

    for tuned in (False, True) if device.type == "cuda" else (False,):
        for name in ways:
            in_new_thread(partial(run, name, tuned))
    if rates and row["seconds"]:
        best = min(seconds["median"] for seconds in row["seconds"].values())
        row["best_share_of_matrix_rate"] = flops / best / rates["bf16_flops_per_second"]
    return row


def _input_gradient(gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, pad: int) -> torch.Tensor:
    found: torch.Tensor = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [1, 1], [pad, pad], [1, 1], False, [0, 0], 1, [True, False, False]
    )[0]
    return found


def _pad(x: torch.Tensor, more: int) -> torch.Tensor:
    return _last(F.pad(x, (0, 0, 0, 0, 0, more)))


def _last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)
