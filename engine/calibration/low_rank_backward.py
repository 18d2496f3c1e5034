"""A low-rank approximate backward pass: gradients of activations are projected to the channels that matter.

At a convolution the gradient of the loss has as many channels as the outputs, then the inputs, but it lies mostly in a
subspace of few dimensions, and the activations respond to the latents mostly in few dimensions too. With G the second
moments of the gradient there, and T those of the activations' response to the latents, the projection of rank r that
changes the latents' gradient least, as if places were independent, is that of balanced truncation (Moore, 1981): with
G = LLᵀ, T = RRᵀ and the singular value decomposition RᵀL = USVᵀ it is P = L V_r S_r⁻¹ U_rᵀ Rᵀ, and what it loses is the
sum of the squares of the other singular values. Losses are comparable across layers, so one price for a multiplication
gives every layer its ranks. The forward pass, and with it loss and picture, stays exact.

Measured once per decoder, in the preconditioner's coordinates, on photographs that are on every machine, as the encoder
leaves them; without an encoder on random latents, with noise for the picture's gradient. The price is the highest at
which the latents' gradient, on parts of the photographs that were left out, is as near to the exact one as asked for.
"""

import contextlib
import hashlib
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..autoencoders.autoencoder import Autoencoder
from ..autoencoders.frozen_conv import Factors, FrozenConv
from ..autoencoders.rewrite import LowRank, LowRankFactors, prepare
from ..coordinates import WhiteningCoordinates
from ..errors import ImageError
from ..runtime.one_time import one_time
from .cache import cache_folder, read_tensors, write_tensors
from .preconditioner import GRID, SEED, WIDTH, typical_latent_std, whitening_kernel

logger = logging.getLogger(__name__)

RANDOM = 12  # random latents, where there is no encoder
TRIED = 3  # of the points, one in so many is tried on, and the others are measured on
MOVE = 0.05  # of the latents, in units of their standard deviation, for the response of the activations
MULTIPLE = 8  # ranks are multiples of it: processors work on so many channels at once, or more
WIDE_MULTIPLE = 32  # on a GPU, whose matrix units take as many at once
MOVED = 236  # multiplications in the time in which a GPU moves a 16-bit value: 790 TFLOP/s and 3.35 TB/s (H100)
WORTH = 0.9  # of the operations of the exact backward pass of a layer: with more it stays exact
DECADES, HALVINGS = 8, 9  # range of prices that is searched, below the highest of use, and how finely
VERSION = 1  # of what is computed here; part of the stored file's name


def low_rank_backward(autoencoder: Autoencoder, shape: tuple[int, ...], error: float) -> LowRank | None:
    """For latents of `shape` (C, h, w), and a gradient that may be off by `error` of its norm in the whitened coordinates.

    None where no channels can be left out, where latents do not have two spatial axes, or the decoder is a function. Kept
    with the autoencoder, and on disk (`$XDG_CACHE_HOME/relatent`).
    """
    kernel = whitening_kernel(autoencoder, shape) if error > 0.0 else None
    if kernel is None or not isinstance(autoencoder.decoder, nn.Module):
        return None
    grid = (min(shape[1], GRID), min(shape[2], GRID))
    made_from: tuple[Any, ...] = (grid, error, tuple(autoencoder.rewrites))
    if autoencoder.device.type == "cuda":
        made_from = (*made_from, "cuda")  # where ranks have other costs
    key = hashlib.sha256(f"{autoencoder.weights_sha256} {made_from} {VERSION}".encode()).hexdigest()
    found: LowRank = autoencoder.cache.get(
        "low_rank", key, lambda: LowRank(key, _load_or_measure(autoencoder, kernel, grid, error, key))
    )
    return found if found.factors else None


def _load_or_measure(
    autoencoder: Autoencoder, kernel: torch.Tensor, grid: tuple[int, int], error: float, key: str
) -> LowRankFactors:
    path = cache_folder("low_rank_backward") / f"{key}.pt"
    found: LowRankFactors | None = read_tensors(path)
    if found is None:
        found = measure(autoencoder, kernel, grid, error)
        write_tensors(path, found)
    return found


def measure(autoencoder: Autoencoder, kernel: torch.Tensor, grid: tuple[int, int], error: float) -> LowRankFactors:
    """Return the factors by the names of the rewritten decoder's modules, on the CPU. kernel: of the whitening convolution."""
    assert isinstance(autoencoder.decoder, nn.Module)
    rewrites = tuple(name for name in autoencoder.rewrites if name != "join_residuals")  # it calls no hooks
    module = prepare(autoencoder.decoder, torch.float32, rewrites)
    generator = torch.Generator().manual_seed(SEED)
    std = typical_latent_std(autoencoder, grid)

    def draw(width: float) -> torch.Tensor:
        return (torch.randn(1, len(kernel), *grid, generator=generator) * width).to(kernel)

    try:
        points = _encoded_targets(autoencoder, grid)
        if not points:
            points = [_noisy(module, draw(WIDTH * std), generator) for _ in range(RANDOM)]
        layers = _layers(module, points[0][0])
        with one_time(f"measuring a low-rank backward pass of {autoencoder.name}", len(points) + HALVINGS) as advance:
            for number, point in enumerate(points):
                if number % TRIED:
                    _probe(module, layers, point, F.conv2d(draw(MOVE * std), kernel, padding="same"))
                advance()
            for layer in layers.values():
                layer.outputs.balance()
                layer.inputs.balance()
            return _cheapest(module, layers, points[::TRIED], kernel, error, advance)
    except (RuntimeError, ImageError) as why:  # a decoder of one size only, moments without a decomposition
        logger.info("the backward pass stays exact: %s", why)
        return {}


Point = tuple[torch.Tensor, torch.Tensor]  # (1, C, h, w) latents, and a gradient of their picture


def _encoded_targets(autoencoder: Autoencoder, grid: tuple[int, int]) -> list[Point]:
    """The modality's calibration targets as the encoder leaves them, each with the gradient of its squared error but for a
    factor; none without an encoder."""
    if autoencoder.encoder is None:
        return []
    factor = autoencoder.downscale_factor or 8
    points = []
    for target in autoencoder.modality.calibration_targets(tuple(side * factor for side in grid)):
        target = target.to(autoencoder.device)
        latents = autoencoder.encode(target)
        with torch.no_grad():
            points.append((latents, autoencoder.decode(latents) - target))
    return points


def _noisy(module: nn.Module, latents: torch.Tensor, generator: torch.Generator) -> Point:
    with torch.no_grad():
        picture = module(latents)
    return latents, torch.randn(picture.shape, generator=generator).to(picture)


class Side:
    """The moments where a convolution's inputs or outputs are, and the projections that follow."""

    def __init__(self, channels: int, multiple: int = MULTIPLE):
        self.channels = channels
        self.gradient = torch.zeros(channels, channels, dtype=torch.float64)
        self.response = torch.zeros(channels, channels, dtype=torch.float64)
        self.ranks = torch.tensor([*range(multiple, channels, multiple), channels])  # the last: all, no projection

    def add(self, gradient: torch.Tensor, response: torch.Tensor) -> None:
        """Accumulate the moments of a gradient and a response, both (1, C, H, W)."""
        pulled, moved = (signal[0].flatten(1).double() for signal in (gradient, response))
        self.gradient += (pulled @ pulled.T).cpu()
        self.response += (moved @ moved.T).cpu() / moved.shape[1]

    def balance(self) -> None:
        """Decompose the moments; `lost` is then what each of `ranks` loses."""
        self.left, self.right = _root(self.gradient), _root(self.response)
        self.u, self.values, self.v = torch.linalg.svd(self.right.T @ self.left)
        squares = self.values.square()
        self.lost = squares.sum() - squares.cumsum(0)[self.ranks - 1]

    def factors(self, rank: int, orthonormal: str) -> Factors | None:
        """orthonormal: which of them is, `project` or `expand`; that suits few digits best."""
        if rank == self.channels:
            return None
        project = (self.right @ self.u[:, :rank]).T
        expand = self.left @ self.v[:rank].T / self.values[:rank]
        if orthonormal == "project":
            basis, mix = torch.linalg.qr(project.T)
            project, expand = basis.T, expand @ mix.T
        else:
            basis, mix = torch.linalg.qr(expand)
            project, expand = mix @ project, basis
        return project.float().contiguous(), expand.float().contiguous()


class Layer:
    """A convolution's two sides, and what its backward pass costs by the ranks of both: on the CPU multiplications, on a
    GPU their time, or that of reading and writing, in units of a multiplication's."""

    def __init__(self, conv: FrozenConv, output: torch.Tensor, on_gpu: bool = False):
        kernel = conv.weight[0, 0].numel()
        taps = kernel / (conv.stride**2 if conv.transposed else 1)
        multiple = WIDE_MULTIPLE if on_gpu else MULTIPLE
        self.outputs = Side(output.shape[1], multiple)
        self.inputs = Side(conv.weight.numel() // (kernel * output.shape[1]), multiple)
        r, s = self.outputs.ranks.unsqueeze(1).double(), self.inputs.ranks.double()
        channels_out, channels_in, places = self.outputs.channels, self.inputs.channels, output[0, 0].numel()
        if not on_gpu:
            project = torch.where(r < channels_out, channels_out * r, 0.0)
            expand = torch.where(s < channels_in, channels_in * s, 0.0)
            self.cost = places * (project + taps * r * s + expand)
            return
        inside = (
            1 / conv.stride**2 if conv.transposed else conv.stride**2
        )  # places of the input per place of the output
        project = torch.maximum(channels_out * r, MOVED * (channels_out + r)) * (r < channels_out)
        expand = torch.maximum(channels_in * s, MOVED * (channels_in + s)) * (s < channels_in) * inside
        self.cost = places * (project + torch.maximum(taps * r * s, MOVED * (r + s * inside)) + expand)

    def choose(self, price: float) -> tuple[Factors | None, Factors | None] | None:
        """The ranks of least loss and cost at a price for a multiplication; None: all of them."""
        total = self.outputs.lost.unsqueeze(1) + self.inputs.lost + price * self.cost
        r, s = divmod(int(total.argmin()), len(self.inputs.ranks))
        if self.cost[r, s] > WORTH * self.cost[-1, -1]:
            return None
        return (
            self.outputs.factors(int(self.outputs.ranks[r]), "project"),
            self.inputs.factors(int(self.inputs.ranks[s]), "expand"),
        )


def _layers(module: nn.Module, latents: torch.Tensor) -> dict[str, Layer]:
    """Return the layers, by name, of the convolutions whose backward pass could be cheaper."""
    with torch.no_grad(), _watched(module) as seen:
        module(latents)
    on_gpu = latents.device.type == "cuda"
    found = {name: Layer(module.get_submodule(name), output, on_gpu) for name, (_, output) in seen.items()}  # type: ignore[arg-type]
    return {name: layer for name, layer in found.items() if layer.cost.min() <= WORTH * layer.cost[-1, -1]}


@torch.enable_grad()
def _probe(module: nn.Module, layers: dict[str, Layer], point: Point, move: torch.Tensor) -> None:
    """Add a point's gradients, and the responses to a move of its latents, to the moments."""
    latents, wanted = point[0].requires_grad_(True), point[1]
    with _watched(module) as seen:
        picture = module(latents)
    here = [tensor for name in layers for tensor in seen[name]]
    first, *gradients = torch.autograd.grad(picture, [latents, *here], wanted)
    with torch.no_grad(), _watched(module) as seen:
        module(latents + move)
    there = [tensor for name in layers for tensor in seen[name]]
    sides = [side for layer in layers.values() for side in (layer.inputs, layer.outputs)]
    for side, gradient, before, after in zip(sides, gradients, here, there, strict=True):
        side.add(gradient / first.norm(), after - before.detach())


def _cheapest(
    module: nn.Module, layers: dict[str, Layer], trials: list[Point], kernel: torch.Tensor, error: float,
    advance: Callable[[], None],
) -> LowRankFactors:  # fmt: skip
    """Return the factors for the highest price at which the gradients of the trials are within `error`."""

    def gradients() -> torch.Tensor:
        pulled = [_gradient(module, latents, wanted) for latents, wanted in trials]
        return WhiteningCoordinates(kernel).vjp(torch.cat(pulled))

    exact, best = gradients(), LowRankFactors()
    high = max(
        (math.log10(layer.outputs.values.square().sum() / layer.cost.min()) for layer in layers.values()), default=0
    )
    low = high - DECADES
    for _ in range(HALVINGS):
        advance()
        middle = 0.5 * (low + high)
        found = {name: layer.choose(10.0**middle) for name, layer in layers.items()}
        for name, factors in found.items():
            conv: Any = module.get_submodule(name)
            conv.set_low_rank(*(factors or (None, None)))
        if (gradients() - exact).norm() <= error * exact.norm():
            low, best = middle, {name: factors for name, factors in found.items() if factors is not None}
        else:
            high = middle
    return best


@torch.enable_grad()
def _gradient(module: nn.Module, latents: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    latents = latents.detach().requires_grad_(True)
    (pulled,) = torch.autograd.grad(module(latents), latents, wanted)
    return pulled


def _root(moments: torch.Tensor) -> torch.Tensor:
    """Return X with XXᵀ = moments."""
    values, vectors = torch.linalg.eigh(moments)
    return vectors * values.clamp_min(1e-12 * values.max()).sqrt()


@contextlib.contextmanager
def _watched(module: nn.Module) -> Iterator[dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Collect the inputs and outputs of the module's convolutions by their names; inputs as views, because other modules may
    use them too."""
    inputs: dict[str, torch.Tensor] = {}
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    hooks = []

    def watch(name: str, part: nn.Module) -> None:
        def before(_part: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            inputs[name] = arguments[0].view_as(arguments[0])
            return inputs[name], *arguments[1:]

        def after(_part: nn.Module, _arguments: Any, output: torch.Tensor) -> None:
            seen[name] = inputs[name], output

        hooks.extend([part.register_forward_pre_hook(before), part.register_forward_hook(after)])

    for name, part in module.named_modules():
        if isinstance(part, FrozenConv):
            watch(name, part)
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
