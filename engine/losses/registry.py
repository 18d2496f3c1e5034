"""What is minimised: losses by name, weighted sums of them, or a caller's own function. A new loss is one function
(see `losses/`) and one line in `LOSSES`."""

from collections.abc import Callable
from typing import Any

import torch

from ..errors import UsageError
from .expression import Term, parse
from .perceptual import lpips, require_network
from .pointwise import HUBER_DELTA, charbonnier, huber, l1, mse, psnr
from .spectral import fft
from .structural import improved_ssim, ms_ssim, require_five_scales, require_pictures, ssim
from .weighting import blend

Loss = Callable[..., torch.Tensor]  # (decoded, target, weight=None) -> (B,)

LOSSES: dict[str, Loss] = {
    "mse": mse,
    "l1": l1,
    "huber": huber,
    "charbonnier": charbonnier,
    "psnr": psnr,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "improved_ssim": improved_ssim,
    "lpips": lpips,
    "fft": fft,
}

# what must hold before any work: (spatial size, device=…, the term's parameters)
REQUIREMENTS: dict[str, Callable[..., None]] = {
    "ssim": require_pictures,
    "improved_ssim": require_pictures,
    "ms_ssim": require_five_scales,
    "lpips": require_network,
}

FUSED = ("mse", "l1", "huber")  # what `kernels/fused_loss.py` computes together with its gradient

_CALLABLE = " (callable)"  # behind the name of a caller's own function, where a configuration is written down


def parse_loss(expression: str) -> list[Term]:
    """Split "mse + 0.1*ssim(window=7)" into its terms. Raises `UsageError` for anything else."""
    if str(expression).endswith(_CALLABLE):
        raise UsageError(
            f"loss_function: {expression!r} was a function of the caller's, which no file can hold; give the function itself"
        )
    return parse(expression, LOSSES, "loss_function")


def describe_loss(loss: str | Loss) -> str:
    """An expression as it is, a function by its module and name: for files."""
    if isinstance(loss, str):
        return loss
    named = loss if hasattr(loss, "__qualname__") else type(loss)
    return f"{named.__module__}.{named.__qualname__}{_CALLABLE}"


def check_loss(loss: str | Loss, size: tuple[int, ...], device: torch.device) -> None:
    """Before any work: load what a loss needs; raise `UsageError` or `WeightsUnavailableError` for what cannot be.

    size: the target's sides. A caller's own function is tried on two grey pictures.
    """
    if not isinstance(loss, str):
        return _try(loss, size, device)
    for term in parse_loss(loss):
        if term.name in REQUIREMENTS:
            REQUIREMENTS[term.name](size, device=device, **term.parameters)


def _try(loss: Loss, size: tuple[int, ...], device: torch.device) -> None:
    target = torch.zeros(2, 3, *size, device=device)
    with torch.enable_grad():
        found: Any = loss(target.clone().requires_grad_(True), target)
    name = describe_loss(loss).removesuffix(_CALLABLE)
    if not isinstance(found, torch.Tensor) or found.shape != (2,):
        what = f"shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise UsageError(
            f"loss_function: {name} must return one value per image, shape (B,): for B = 2 found {what}; "
            "end it with .flatten(1).mean(1)"
        )
    if not found.requires_grad:
        raise UsageError(f"loss_function: {name} has no gradient with respect to the decoded image")


def fusable(loss: str | Loss) -> tuple[str, float] | None:
    """(name, δ) of the one fused loss that `loss` consists of, or None."""
    terms = parse_loss(loss) if isinstance(loss, str) else []
    if len(terms) != 1 or terms[0].weight != 1.0 or terms[0].name not in FUSED:
        return None
    return terms[0].name, terms[0].parameters.get("delta", HUBER_DELTA)


def build_objective(loss: str | Loss) -> Loss:
    """The function (decoded, target, weight=None) -> (B,) of an expression or of a caller's own function.

    decoded, target: (B, C, *spatial) fp32 in [-1, 1]. weight: (B, 1, *spatial), mean 1 per image. A caller's function
    takes no weight and gets the decoded image blended with the target.
    """
    if not isinstance(loss, str):
        own = loss
        return lambda decoded, target, weight=None: own(blend(decoded, target, weight), target)
    terms = [(term.weight, LOSSES[term.name], term.parameters) for term in parse_loss(loss)]

    def objective(decoded: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        parts = [factor * function(decoded, target, weight, **parameters) for factor, function, parameters in terms]
        return torch.stack(parts).sum(0)

    return objective
