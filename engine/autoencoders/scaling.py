"""How a diffusion model scales latents: between what the decoder takes (unscaled) and what the model is trained on.

`to_json` is stored whole in every file, under `scaling` of the autoencoder's identity. A new kind is one class and one
line in `KINDS`. Arrays of numpy and tensors of torch are taken alike.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import DatasetError, UsageError

Array = Any  # a numpy array or a torch tensor; what comes out is of the same kind


class Scaling(ABC):
    """A bijection of latents (C, h, w), (B, C, h, w) or (B, C, d, h, w)."""

    kind: ClassVar[str]  # in files

    @abstractmethod
    def scale(self, latents: Array) -> Array:
        """Unscaled latents -> what the diffusion model sees."""

    @abstractmethod
    def unscale(self, latents: Array) -> Array:
        """The inverse of `scale`."""

    def to_json(self) -> dict[str, Any]:
        """The kind and the parameters, JSON-ready; `scaling_from_json` is the inverse."""
        parameters = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        return {"kind": self.kind, **parameters}


@dataclass(frozen=True)
class FactorScaling(Scaling):
    """(z − shift) · factor, as Stable Diffusion (no shift), Stable Diffusion 3 and FLUX.1."""

    kind = "factor"
    factor: float = 1.0
    shift: float = 0.0

    def scale(self, latents: Array) -> Array:
        return (latents - self.shift) * self.factor

    def unscale(self, latents: Array) -> Array:
        return latents / self.factor + self.shift


@dataclass(frozen=True)
class ChannelScaling(Scaling):
    """(z − meanᶜ) · factor / stdᶜ for each channel c: `latents_mean` and `latents_std` of diffusers' configurations."""

    kind = "channels"
    mean: tuple[float, ...]
    std: tuple[float, ...]
    factor: float = 1.0

    def __post_init__(self) -> None:
        _check_statistics(self, self.mean, self.std)

    def scale(self, latents: Array) -> Array:
        return (latents - _column(self.mean, latents)) * (self.factor / _column(self.std, latents))

    def unscale(self, latents: Array) -> Array:
        return latents * (_column(self.std, latents) / self.factor) + _column(self.mean, latents)


@dataclass(frozen=True)
class BatchNormScaling(Scaling):
    """FLUX.2: pixels of a patch move into the channels, (C, h, w) -> (C·p·q, h/p, w/q), then (z − mean) / √(var + eps),
    the running statistics of a batch norm over those channels."""

    kind = "batch_norm"
    mean: tuple[float, ...]
    var: tuple[float, ...]
    eps: float = 1e-5
    patch_size: tuple[int, int] = (2, 2)

    def __post_init__(self) -> None:
        object.__setattr__(self, "patch_size", tuple(self.patch_size))
        _check_statistics(self, self.mean, self.var)

    @property
    def _std(self) -> tuple[float, ...]:
        return tuple(math.sqrt(value + self.eps) for value in self.var)

    def scale(self, latents: Array) -> Array:
        p, q = self.patch_size
        *batch, channels, height, width = latents.shape
        if height % p or width % q:
            raise UsageError(
                f"scaling 'batch_norm' packs {p}x{q} latent cells, found latents of {height}x{width}; choose a size in pixels "
                "of which a diffusion model of this autoencoder can be trained: a multiple of `Autoencoder.cell`"
            )
        cut = latents.reshape(-1, channels, height // p, p, width // q, q)
        moved = _permute(cut, (0, 1, 3, 5, 2, 4)).reshape(*batch, channels * p * q, height // p, width // q)
        return (moved - _column(self.mean, moved)) / _column(self._std, moved)

    def unscale(self, latents: Array) -> Array:
        p, q = self.patch_size
        wide = latents * _column(self._std, latents) + _column(self.mean, latents)
        *batch, channels, height, width = wide.shape
        cut = wide.reshape(-1, channels // (p * q), p, q, height, width)
        return _permute(cut, (0, 1, 4, 2, 5, 3)).reshape(*batch, channels // (p * q), height * p, width * q)


KINDS: dict[str, type[Scaling]] = {kind.kind: kind for kind in (FactorScaling, ChannelScaling, BatchNormScaling)}


def scaling_from_json(values: dict[str, Any]) -> Scaling:
    """The inverse of `Scaling.to_json`. Raises `DatasetError` for a kind or parameters that are not known."""
    parameters = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    kind = parameters.pop("kind", None)
    if kind not in KINDS:
        raise DatasetError(f"scaling: expected one of {', '.join(KINDS)}, found {kind!r}")
    try:
        return KINDS[kind](**parameters)
    except TypeError as error:
        raise DatasetError(f"scaling {kind!r}: {error}") from error


def identity_scaling(vae: dict[str, Any]) -> Scaling:
    """The scaling in a stored identity of an autoencoder; files of earlier versions hold its two factors only."""
    if "scaling" in vae:
        return scaling_from_json(vae["scaling"])
    return FactorScaling(vae["scaling_factor"], vae["shift_factor"])


def _check_statistics(scaling: Scaling, mean: Any, spread: Any) -> None:
    for name, value in list(vars(scaling).items()):
        if isinstance(value, list):
            object.__setattr__(scaling, name, tuple(value))
    if len(mean) != len(spread) or not len(mean):
        raise UsageError(
            f"scaling {scaling.kind!r}: expected statistics of equally many channels, found {len(mean)} and {len(spread)}"
        )
    if not all(value > 0.0 for value in spread):
        raise UsageError(f"scaling {scaling.kind!r}: expected deviations or variances above 0, found {min(spread)}")


def _column(values: tuple[float, ...], like: Any) -> Any:
    """(C, 1, 1), or with as many axes as `like` has behind its channels, in its library, type and device."""
    rank = 3 if like.ndim < 5 else 4
    shape = (len(values),) + (1,) * (rank - 1)
    if hasattr(like, "new_tensor"):
        return like.new_tensor(values).reshape(shape)
    import numpy as np

    return np.asarray(values, like.dtype).reshape(shape)


def _permute(array: Any, axes: tuple[int, ...]) -> Any:
    return array.permute(*axes) if hasattr(array, "permute") else array.transpose(axes)
