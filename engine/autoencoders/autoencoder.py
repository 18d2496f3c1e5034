"""A frozen autoencoder as the engine sees it: a decoder, perhaps an encoder, and what is known of both."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...kernels.library import channels_last
from ..coordinates import Coordinates
from ..errors import UsageError
from ..inputs.sizes import Size, as_size
from ..loop_decoder import Decoded, LoopDecoder
from ..modality import Modality
from ..pictures import PICTURES
from ..runtime.device import DTYPES
from ..runtime.torch_modes import default_modes
from .cache import DecoderCache
from .rewrite import DEFAULT_REWRITES, ENCODER_REWRITES, LowRank, prepare
from .scaling import FactorScaling, Scaling
from .shared_norm import share_norms
from .tiling import decode_in_tiles
from .weights_hash import weights_sha256

Transform = Callable[[torch.Tensor], torch.Tensor]


class Autoencoder:
    """A decoder `latents -> output` and an encoder `output -> latents` with frozen weights.

    Latents are unscaled, as the decoder takes them: (B, C, *spatial) fp32 of any rank. Outputs are (B, C, *spatial) fp32 in
    the modality's range; of the default one, pictures, (B, 3, H, W) in [-1, 1]. What the wrapped decoder and encoder use
    themselves is their `value_range`, and is converted here. Modules are put in evaluation mode and their parameters stop
    asking for gradients.

    A subclass may override `loop_decoder`, to give the loop an extra loss per sample or a relaxation of the decoder, and
    `encode`; several latents per sample are packed into one buffer by `engine/packing.py`.
    """

    def __init__(
        self,
        decoder: Transform,
        encoder: Transform | None = None,
        *,
        name: str,
        latent_channels: int | None = None,
        downscale_factor: int | None = None,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
        scaling: Scaling | None = None,
        value_range: tuple[float, float] | None = None,
        native_size: int | None = None,
        repository: str | None = None,
        revision: str | None = None,
        modality: Modality = PICTURES,
        coordinates: Coordinates | None = None,
    ):
        """scaling: how a diffusion model scales the latents; None: by `scaling_factor` and `shift_factor`.
        value_range: (low, high) of what the wrapped decoder gives; None: the modality's. native_size: the side that it is
        made for, in values (pixels); None: the modality's. coordinates: those in which its latents are optimised; None: the
        whitened ones that are measured, or the latents themselves.
        Raises `UsageError` for an empty value range.
        """
        value_range = value_range or modality.value_range
        if not value_range[0] < value_range[1]:
            raise UsageError(f"value_range: expected (low, high) with low < high, found {value_range}")
        self.decoder, self.encoder = decoder, encoder
        self.name = name
        self.latent_channels, self.downscale_factor = latent_channels, downscale_factor
        self.scaling = scaling or FactorScaling(float(scaling_factor), float(shift_factor))
        self.value_range = value_range
        self.modality, self.coordinates = modality, coordinates
        self._native_size = native_size or modality.native_size
        self.repository, self.revision = repository, revision
        self.rewrites: tuple[str, ...] = DEFAULT_REWRITES  # of the loop's decoder, names in `rewrite.py`
        self.cache = DecoderCache()
        self._sha256: str | None = None
        for module in self._modules():
            module.eval().requires_grad_(False)

    @property
    def native_size(self) -> int:
        """The side that it is made for, in values (pixels). Raises `UsageError` where it is not known."""
        if self._native_size is None:
            raise UsageError(f"the size that {self.name!r} is made for is not known; give a size")
        return self._native_size

    @property
    def cell(self) -> int:
        """Pixels that a side must be a multiple of for whole latent cells, and whole patches where its scaling packs them."""
        return (self.downscale_factor or 1) * max(getattr(self.scaling, "patch_size", (1,)))

    @property
    def scaling_factor(self) -> float:
        """What a diffusion model multiplies latents by, all channels alike."""
        return float(getattr(self.scaling, "factor", 1.0))

    @property
    def shift_factor(self) -> float:
        """What a diffusion model subtracts from latents before it multiplies them by `scaling_factor`, all channels alike."""
        return float(getattr(self.scaling, "shift", 0.0))

    def _modules(self) -> list[nn.Module]:
        return [part for part in (self.decoder, self.encoder) if isinstance(part, nn.Module)]

    @property
    def device(self) -> torch.device:
        """The device of the weights; CPU where there are none."""
        for module in self._modules():
            for tensor in (*module.parameters(), *module.buffers()):
                return tensor.device
        return torch.device("cpu")

    def to(self, device: torch.device) -> "Autoencoder":
        """Move the weights, in place."""
        for module in self._modules():
            module.to(device)
        self.cache.clear()
        return self

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, *spatial) -> the output (B, C, *spatial) fp32, nominally in the modality's range, not clamped;
        differentiable in `latents`."""
        return self._to_modality(self.decoder(latents.float())).float()

    def loop_decoder(
        self, precision: str, recompute: bool = False, low_rank: LowRank | None = None, tile: int | None = None,
        rewrites: tuple[str, ...] | None = None,
    ) -> LoopDecoder:  # fmt: skip
        """Return `decode` as the optimisation loop runs it.

        A module is copied, rewritten (by `rewrites`, or None: the autoencoder's; exact to rounding), cast to `precision` and laid out channels-last; its
        outputs come in its own type where its range is the modality's. `recompute` keeps less in memory for the gradient;
        `low_rank` makes the gradient cheaper and approximate. `tile` decodes in tiles of so many pixels, see `tiling`. A decoder that is a plain function stays as it is, in fp32.
        """
        cell = self.downscale_factor or 1
        if not isinstance(self.decoder, nn.Module):
            plain = LoopDecoder.of(self.decode, modality=self.modality)
            return plain if tile is None else dataclasses.replace(plain, run=decode_in_tiles(plain.run, tile, cell))
        source, rewrites = self.decoder, tuple(self.rewrites if rewrites is None else rewrites)
        rewrites = (*rewrites, "recompute_blocks") if recompute else rewrites
        key = ("decoder", precision, rewrites, low_rank.key if low_rank else None, tile is None)
        factors = low_rank.factors if low_rank else None

        def make() -> nn.Module:
            copied = prepare(source, DTYPES[precision], rewrites, factors)
            return copied if tile is None else share_norms(copied)

        module = self.cache.get("copies", key, make)

        def run(latents: torch.Tensor, _step: torch.Tensor) -> Decoded:
            latents = latents.contiguous(memory_format=channels_last(latents.ndim))
            return Decoded(self._to_modality(module(latents)))

        decode = run if tile is None else decode_in_tiles(run, tile, cell, module)
        return LoopDecoder(decode, DTYPES[precision], self.modality, exact=low_rank is None)

    def _to_modality(self, output: torch.Tensor) -> torch.Tensor:
        """Convert outputs from the wrapped decoder's range to the modality's. Raises `UsageError` for what is no tensor."""
        if not isinstance(output, torch.Tensor):
            raise UsageError(
                f"the decoder of {self.name!r} gives {type(output).__name__}, not a tensor; wrap it in a module whose forward "
                "returns the tensor alone, such as decode(z).sample"
            )
        if self.value_range == self.modality.value_range:
            return output
        (low, high), (to_low, to_high) = self.value_range, self.modality.value_range
        return (output.float() - low) * ((to_high - to_low) / (high - low)) + to_low

    @torch.no_grad()
    def encode(self, images: torch.Tensor, precision: str = "fp32") -> torch.Tensor:
        """Targets (B, C, *spatial) in the modality's range -> latents (B, C, *spatial) fp32, unscaled: the posterior's mode,
        computed in `precision`, whatever the caller's autocast. Raises `UsageError` where there is no encoder."""
        with default_modes(self.device):
            return self.run_encoder(images, precision)

    def run_encoder(self, images: torch.Tensor, precision: str = "fp32") -> torch.Tensor:
        """Return what `encode` returns, differentiable in `images` and, in fp32, in those weights of the encoder that ask for gradients."""
        if self.encoder is None:
            raise UsageError(
                f"the autoencoder {self.name!r} has no encoder; give initial latents, or load it with encoder=…"
            )
        encoder, images = self.encoder, images.float()
        if self.value_range != self.modality.value_range or not getattr(encoder, "magnifies_rounding", False):
            # Between equal ranges too, although it rounds then: datasets of earlier versions have such latents.
            (low, high), (from_low, from_high) = self.value_range, self.modality.value_range
            images = (images - from_low) * ((high - low) / (from_high - from_low)) + low
        if precision != "fp32" and isinstance(encoder, nn.Module) and not getattr(encoder, "keeps_fp32", False):
            source = encoder
            encoder = self.cache.get(
                "copies", ("encoder", precision), lambda: prepare(source, DTYPES[precision], ENCODER_REWRITES)
            )
            images = images.to(DTYPES[precision]).contiguous(memory_format=channels_last(images.ndim))
        return encoder(images).float()

    def with_encoder(self, encoder: Transform) -> "Autoencoder":
        """Return the same autoencoder, its decoder shared, with another encoder; the encoder stays in the mode that it is in."""
        other = copy.copy(self)
        other.encoder, other.cache, other._sha256 = encoder, DecoderCache(), None
        return other

    @property
    def weights_sha256(self) -> str | None:
        """SHA-256 over names, shapes, types and bytes of all parameters and buffers, decoder first; None where there are none."""
        if self._sha256 is None and self._modules():
            self._sha256 = weights_sha256(self._modules())
        return self._sha256

    def identity(self) -> dict[str, Any]:
        """Return what every dataset states of the decoder that its latents belong to; JSON-ready."""
        return {
            "name": self.name,
            "repository": self.repository,
            "revision": self.revision,
            "weights_sha256": self.weights_sha256,
            "latent_channels": self.latent_channels,
            "downscale_factor": self.downscale_factor,
            "scaling_factor": self.scaling_factor,
            "shift_factor": self.shift_factor,
            "scaling": self.scaling.to_json(),
        }

    def check_size(self, size: int | Size) -> None:
        """Raise `UsageError` unless each side of `size`, (width, height) or the side of a square, in pixels, is a whole
        number of latent cells, and of the patches that its scaling packs."""
        factor = self.cell
        for side in as_size(size):
            if side < factor or side % factor:
                lower = max(factor, side // factor * factor)
                raise UsageError(
                    f"size {side} does not fit {self.name!r}: one latent cell is {factor} pixels; "
                    f"try {lower} or {lower + factor}"
                )
