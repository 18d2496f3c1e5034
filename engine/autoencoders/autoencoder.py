"""A frozen autoencoder as the engine sees it: a decoder, perhaps an encoder, and what is known of both."""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..errors import UsageError
from ..runtime.device import DTYPES
from .rewrite import DEFAULT_REWRITES, LowRankFactors, prepare

Transform = Callable[[torch.Tensor], torch.Tensor]


class Autoencoder:
    """A decoder `z -> image` and an encoder `image -> z` with frozen weights.

    Latents are unscaled, as the decoder takes them: (B, C, h, w) fp32. Images are (B, 3, H, W) fp32 in [-1, 1]; what
    the wrapped decoder and encoder use themselves is their `value_range`, and is converted here. Modules are put in
    evaluation mode and their parameters stop asking for gradients.
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
        value_range: tuple[float, float] = (-1.0, 1.0),
        native_size: int = 512,
        repository: str | None = None,
        revision: str | None = None,
    ):
        if not value_range[0] < value_range[1]:
            raise UsageError(f"value_range: expected (low, high) with low < high, found {value_range}")
        self.decoder, self.encoder = decoder, encoder
        self.name = name
        self.latent_channels, self.downscale_factor = latent_channels, downscale_factor
        self.scaling_factor, self.shift_factor = float(scaling_factor), float(shift_factor)
        self.value_range = value_range
        self.native_size = native_size
        self.repository, self.revision = repository, revision
        self.rewrites: tuple[str, ...] = DEFAULT_REWRITES  # of the loop's decoder, names in `engine/rewrite.py`
        self.loops: dict[Any, Any] = {}  # captured loops by shape and configuration, kept by `engine/loop.py`
        self.preconditioners: dict[Any, torch.Tensor] = {}  # by grid, kept by `engine/preconditioner.py`
        self.low_rank_factors: dict[
            Any, LowRankFactors
        ] = {}  # by grid, error and rewrites, kept by `engine/thinning.py`
        self._copies: dict[Any, nn.Module] = {}  # by precision, rewrites and thinning
        self._sha256: str | None = None
        for module in self._modules():
            module.eval().requires_grad_(False)

    def _modules(self) -> list[nn.Module]:
        return [part for part in (self.decoder, self.encoder) if isinstance(part, nn.Module)]

    @property
    def device(self) -> torch.device:
        """Of the weights; CPU where there are none."""
        for module in self._modules():
            for tensor in (*module.parameters(), *module.buffers()):
                return tensor.device
        return torch.device("cpu")

    def to(self, device: torch.device) -> "Autoencoder":
        """Move the weights, in place."""
        for module in self._modules():
            module.to(device)
        self._copies.clear()
        self.preconditioners.clear()
        self.low_rank_factors.clear()
        self.loops.clear()
        return self

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, 3, H, W) fp32, nominally in [-1, 1], not clamped; differentiable in `latents`."""
        return self._in_range(self.decoder(latents.float())).float()

    def loop_decoder(
        self, precision: str, recompute: bool = False, low_rank: LowRankFactors | None = None
    ) -> tuple[Transform, torch.dtype]:
        """`decode` as the loop runs it, and the type of the latents it takes.

        A module is copied, rewritten (`rewrites`, exact to rounding), cast and laid out channels-last; its pictures
        come in its own type where its range is [-1, 1]. `recompute` keeps less in memory for the gradient; `low_rank`,
        of `low_rank_factors`, makes it cheaper and approximate. A decoder that is a plain function stays as it is, in fp32.
        """
        if not isinstance(self.decoder, nn.Module):
            return self.decode, torch.float32
        rewrites = (*self.rewrites, "recompute_blocks") if recompute else tuple(self.rewrites)
        key = (precision, rewrites, id(low_rank) if low_rank else None)
        if key not in self._copies:
            self._copies[key] = prepare(self.decoder, DTYPES[precision], rewrites, low_rank)
        module = self._copies[key]

        def decode(latents: torch.Tensor) -> torch.Tensor:
            if latents.ndim == 4:
                latents = latents.contiguous(memory_format=torch.channels_last)
            return self._in_range(module(latents))

        return decode, DTYPES[precision]

    def _in_range(self, image: torch.Tensor) -> torch.Tensor:
        low, high = self.value_range
        return image if (low, high) == (-1.0, 1.0) else (image.float() - low) * (2.0 / (high - low)) - 1.0

    @torch.no_grad()
    def encode(self, images: torch.Tensor, precision: str = "fp32") -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, C, h, w) fp32: the posterior's mode, unscaled, computed in `precision`."""
        if self.encoder is None:
            raise UsageError(
                f"the autoencoder {self.name!r} has no encoder; give initial latents, or load it with encoder=…"
            )
        low, high = self.value_range
        encoder, images = self.encoder, (images.float() + 1.0) * ((high - low) / 2.0) + low
        if precision != "fp32" and isinstance(encoder, nn.Module):
            key = (precision, ("encoder",))
            if key not in self._copies:
                self._copies[key] = prepare(encoder, DTYPES[precision], ())
            encoder = self._copies[key]
            images = images.to(DTYPES[precision]).contiguous(memory_format=torch.channels_last)
        return encoder(images).float()

    @property
    def weights_sha256(self) -> str | None:
        """Over names, shapes, types and bytes of all parameters and buffers, decoder first; None where there are none."""
        if self._sha256 is None and self._modules():
            digest = hashlib.sha256()
            for module in self._modules():
                for key, tensor in sorted(module.state_dict().items()):
                    digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
                    flat = tensor.detach().cpu().contiguous().view(-1)
                    digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
            self._sha256 = digest.hexdigest()
        return self._sha256

    def identity(self) -> dict[str, Any]:
        """What a dataset must say of the decoder its latents belong to; JSON-ready."""
        return {
            "name": self.name,
            "repository": self.repository,
            "revision": self.revision,
            "weights_sha256": self.weights_sha256,
            "latent_channels": self.latent_channels,
            "downscale_factor": self.downscale_factor,
            "scaling_factor": self.scaling_factor,
            "shift_factor": self.shift_factor,
        }

    def check_size(self, size: int) -> None:
        """Raise `UsageError` unless a square of `size` pixels is a whole number of latent cells."""
        factor = self.downscale_factor or 1
        if size < factor or size % factor:
            lower = max(factor, size // factor * factor)
            raise UsageError(
                f"size {size} does not fit {self.name!r}: one latent cell is {factor} pixels; try {lower} or {lower + factor}"
            )
