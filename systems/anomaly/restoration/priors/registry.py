"""The priors by name. A new one is a file in this folder and a line here."""

from collections.abc import Callable

from torch import Tensor

from .....engine.errors import UsageError
from ...model.vqvae import VQVAE3D
from ..normality import Normality
from .nearest_code import NearestCode

Prior = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (latents, initial, step) -> (B,)


def _nearest_code(model: VQVAE3D, normality: Normality | None) -> Prior:
    return NearestCode(model.quantiser.codebook.float())


def _mixture(model: VQVAE3D, normality: Normality | None) -> Prior:
    return _fitted(normality).mixture


def _codes(model: VQVAE3D, normality: Normality | None) -> Prior:
    return _fitted(normality).codes


def _fitted(normality: Normality | None) -> Normality:
    if normality is None:
        raise UsageError("this prior is fitted to normal volumes, which the model has none of; give them with --normal")
    return normality


NONE = "none"
PRIORS: dict[str, Callable[[VQVAE3D, Normality | None], Prior]] = {
    "nearest-code": _nearest_code,
    "mixture": _mixture,
    "code-prior": _codes,
}
FITTED = ("mixture", "code-prior")  # those that need a `Normality`


def build_prior(name: str, model: VQVAE3D, normality: Normality | None) -> Prior | None:
    """The prior of that name; None of "none". Raises `UsageError` for an unknown name and where it has to be fitted first."""
    if name == NONE:
        return None
    if name not in PRIORS:
        raise UsageError(f"prior: expected one of {NONE}, {', '.join(PRIORS)}, found {name!r}")
    return PRIORS[name](model, normality)
