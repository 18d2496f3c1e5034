"""The codec's network: transforms, hyperprior and three nested scales coded coarse to fine."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..precision import wide
from . import layers
from .configuration import CONFIGURATIONS, CodecConfiguration
from .hierarchy import SCALES, STEPS, Step, collect_scales, mask, scale_of
from .quantisers import Quantiser, additive_noise
from .rates import MixturePrior, bits_of, gaussian_probability
from .scale_table import levels_of, sigma_of

MULTIPLE = 64  # of the height and width of what the network takes


@dataclass
class CodecOutput:
    """What one pass gives."""

    reconstruction: Tensor  # (B, 3, H, W), about [0, 1], not clamped
    z_bits: Tensor  # (B,)
    y_bits: Tensor  # (B, 3): what s1, what s2 beyond s1, and what s3 beyond s2 costs
    latents_hierarchy: list[Tensor]  # [s1, s2, s3] of y before it is quantised

    @property
    def bits(self) -> Tensor:
        """(B,): all of a picture's bits."""
        return self.z_bits + self.y_bits.sum(1)


class HierarchicalCodec(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1], H and W multiples of 64, to a reconstruction and its bits.

    truncation: applied to y after the analysis, for spectral truncation while training; None is the identity.
    """

    def __init__(self, configuration: CodecConfiguration | str = "small") -> None:
        super().__init__()
        c = CONFIGURATIONS[configuration] if isinstance(configuration, str) else configuration
        self.configuration = c
        self.truncation: Callable[[Tensor], Tensor] | None = None
        self.analysis = layers.analysis(c.widths, c.latent_channels)
        self.synthesis = layers.synthesis(c.widths, c.latent_channels)
        self.hyper_analysis = layers.hyper_analysis(c.latent_channels, c.hyper_channels)
        self.hyper_synthesis = layers.hyper_synthesis(c.hyper_channels, c.feature_channels)
        self.prior = MixturePrior(c.hyper_channels)
        with_context = c.feature_channels + c.latent_channels + 1
        self.scale_parameters = nn.ModuleList(
            [layers.entropy_parameters(c.feature_channels, c.context_channels, c.latent_channels, 1)]
            + [
                layers.entropy_parameters(with_context, c.context_channels, c.latent_channels, 3)
                for _ in range(SCALES - 1)
            ]
        )

    def analyse(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures to y (B, latent_channels, H/16, W/16) and z (B, hyper_channels, H/64, W/64), not quantised."""
        y = wide(self.analysis(images - 0.5))
        if self.truncation is not None:
            y = self.truncation(y)
        return y, wide(self.hyper_analysis(y))

    def collect_latents(self, images: Tensor) -> list[Tensor]:
        """[s1, s2, s3] of y, coarse to fine, (B, latent_channels, H/16/stride, W/16/stride) with strides 4, 2, 1."""
        return collect_scales(self.analyse(images)[0])

    def forward(self, images: Tensor, quantise: Quantiser = additive_noise) -> CodecOutput:
        y, z = self.analyse(images)
        return self.evaluate(y, z, quantise)

    def evaluate(self, y: Tensor, z: Tensor, quantise: Quantiser) -> CodecOutput:
        """Rate and reconstruction of given latents; both come from the same quantised values.

        quantise: from any real tensor to what stands for its integers; for y it is given the distance to the predicted mean.
        """
        decoded_z = quantise(z)
        features = self.hyper_synthesis(decoded_z)
        decoded = torch.zeros_like(y)
        y_bits = [torch.zeros(len(y), dtype=y.dtype, device=y.device) for _ in range(SCALES)]
        for step in STEPS:
            decoded, bits = self._code_step(step, y, decoded, features, quantise)
            y_bits[step.scale] = y_bits[step.scale] + bits
        return CodecOutput(
            reconstruction=wide(self.synthesis(decoded)) + 0.5,
            z_bits=bits_of(self.prior.probability(decoded_z)),
            y_bits=torch.stack(y_bits, 1),
            latents_hierarchy=collect_scales(y),
        )

    def _code_step(
        self, step: Step, y: Tensor, decoded: Tensor, features: Tensor, quantise: Quantiser
    ) -> tuple[Tensor, Tensor]:
        own = scale_of(y, step.scale)
        coded = mask(step.coded, own.shape[2], own.shape[3], like=y)
        inputs = scale_of(features, step.scale)
        if step.known:
            known = mask(step.known, own.shape[2], own.shape[3], like=y)
            context = scale_of(decoded, step.scale)
            inputs = torch.cat([inputs, context, known.expand(len(y), -1, -1, -1)], 1)
        mean, raw = wide(self.scale_parameters[step.scale](inputs)).chunk(2, 1)
        residual = quantise(own - mean)
        probability = gaussian_probability(residual, sigma_of(levels_of(raw)))
        bits = bits_of(torch.where(coded > 0, probability, torch.ones_like(probability)))
        # A new tensor, not a write in place: the step before is needed for the gradient.
        result = decoded.clone()
        scale_of(result, step.scale).add_((residual + mean) * coded)
        return result, bits


def parameter_counts(configuration: CodecConfiguration | str) -> dict[str, int]:
    """Parameters of each part and in "total", without allocating any."""
    with torch.device("meta"):
        model = HierarchicalCodec(configuration)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return {**counts, "total": sum(counts.values())}


def print_parameter_counts() -> None:
    """One line for each configuration: its name, the parameters in all and of each part."""
    for name in CONFIGURATIONS:
        counts = parameter_counts(name)
        parts = ", ".join(f"{part} {count:,}" for part, count in counts.items() if part != "total")
        print(f"{name}: {counts['total']:,} parameters ({parts})")
