"""The codec's decoder as the engine's loop takes it: packed (y, z) to the picture and the rate."""

from typing import Any

import torch
from torch import Tensor, nn

from ....engine.autoencoders.autoencoder import Autoencoder
from ....engine.autoencoders.rewrite import prepare
from ....engine.coordinates import ScaledCoordinates
from ....engine.loop_decoder import Decoded, LoopDecoder
from ....engine.modality import Modality
from ....engine.packing import Packing
from ....engine.runtime.device import DTYPES, resolve_precision
from ..bitstream.image_codec import FACTOR
from ..model.network import MULTIPLE, HierarchicalCodec
from ..model.quantisers import Quantiser, hard_round
from .config import RefinementConfig
from .noise import IterationNoise
from .quantisers.registry import RELAXATIONS
from .quantisers.straight_through import straight_through
from .temperature import Annealing

REWRITES = ("freeze_convolutions",)  # weights need no gradient, so inputs are not kept
LEAST_TEMPERATURE = 1e-3  # of a sample; below it is rounding


class LatentDecoder(Autoencoder):
    """Of one model and one padded size. Latents are (B, 1, N), y and z one after the other; the picture is in [0, 1].

    The extra loss is bits per pixel of the padded picture. The loop differentiates relaxed rounding; what counts is rounding,
    in fp32, with the picture limited to [0, 1], as a file's is.
    """

    def __init__(self, model: HierarchicalCodec, height: int, width: int, config: RefinementConfig) -> None:
        """height, width: of the padded pictures, multiples of 64."""
        channels = model.configuration
        self.packing = Packing(
            {
                "y": (channels.latent_channels, height // FACTOR, width // FACTOR),
                "z": (channels.hyper_channels, height // MULTIPLE, width // MULTIPLE),
            }
        )
        super().__init__(
            self.decode_rounded,
            name=f"codec {model.configuration.name}",
            modality=Modality(0.0, 1.0, name="pictures"),
            coordinates=ScaledCoordinates(self.packing.fill({"y": 1.0, "z": config.hyper_rate})),
        )
        self.config = config
        self.relaxation = RELAXATIONS[config.quantiser]
        ceiling = self.relaxation.ceiling if config.ceiling is None else config.ceiling
        self.annealing = Annealing(config.steps, ceiling, config.rate, config.start, config.tail)
        self.exact = _frozen(model, "fp32")
        self.fast = _frozen(model, resolve_precision(config.precision, torch.device("cpu")))

    def decode_rounded(self, latents: Tensor) -> Tensor:
        """(B, 1, N) -> the picture (B, 3, H, W) of the rounded latents."""
        return self._evaluate(self.exact, latents, hard_round).output

    def loop_decoder(self, *_arguments: Any, **_options: Any) -> LoopDecoder:
        return LoopDecoder(
            self._relaxed, torch.float32, self.modality, judge=self._judge, judge_interval=self.config.judge_interval
        )

    def _relaxed(self, latents: Tensor, step: Tensor) -> Decoded:
        temperature, noise = self.annealing.temperature(step), IterationNoise(self.config.seed, step)
        hot = temperature > 0

        def quantise(x: Tensor) -> Tensor:
            if not bool(hot.any()):
                return straight_through(x, temperature, noise)
            relaxed = self.relaxation.sample(x, temperature.clamp_min(LEAST_TEMPERATURE), noise)
            if bool(hot.all()):
                return relaxed
            return torch.where(hot.view(-1, *[1] * (x.ndim - 1)), relaxed, straight_through(x, temperature, noise))

        return self._evaluate(self.fast, latents, quantise)

    def _judge(self, latents: Tensor, _step: Tensor) -> Decoded:
        decoded = self._evaluate(self.exact, latents, hard_round)
        return decoded._replace(output=self.modality.clamp(decoded.output))

    def _evaluate(self, model: HierarchicalCodec, latents: Tensor, quantise: Quantiser) -> Decoded:
        parts = self.packing.unpack(latents)
        found = model.evaluate(parts["y"], parts["z"], quantise)
        picture = found.reconstruction
        return Decoded(picture, found.bits / picture[0, 0].numel())


class _Cast(nn.Module):
    """A network that computes in its own type, channels-last, between fp32 tensors."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.network(x.to(self.dtype, memory_format=torch.channels_last)).float()
        return result


def _frozen(model: HierarchicalCodec, precision: str) -> HierarchicalCodec:
    """A copy without gradients of weights; the synthesis, which is most of the work, in `precision`, the rates in fp32."""
    copied = prepare(model, torch.float32, REWRITES)
    copied.synthesis = _Cast(prepare(model.synthesis, DTYPES[precision], REWRITES), DTYPES[precision])
    assert isinstance(copied, HierarchicalCodec)
    return copied.requires_grad_(False)
