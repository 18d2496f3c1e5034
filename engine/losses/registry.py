"""What is minimised: losses by name, weighted sums of them, or a caller's own function. A new loss is one function
(see `losses/`) and one line in `LOSSES`."""

from collections.abc import Callable

import torch

from ..errors import UsageError
from .expression import CALLABLE, Term, check_per_image, describe, parse
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


def parse_loss(expression: str) -> list[Term]:
    """Split "mse + 0.1*ssim(window=7)" into its terms. Raises `UsageError` for anything else."""
    if str(expression).endswith(CALLABLE):
        raise UsageError(
            f"loss_function: {expression!r} was a function of the caller's, which no file can hold; give the function itself"
        )
    return parse(expression, LOSSES, "loss_function")


def check_loss(loss: str | Loss, shape: tuple[int, ...], device: torch.device) -> None:
    """Before any work: load what a loss needs; raise `UsageError` or `WeightsUnavailableError` for what cannot be.

    shape: (C, *spatial) of a target. A caller's own function is tried on two targets of zeros.
    """
    if isinstance(loss, str):
        for term in parse_loss(loss):
            if term.name in REQUIREMENTS:
                REQUIREMENTS[term.name](shape[1:], device=device, **term.parameters)
        return
    target = torch.zeros(2, *shape, device=device)
    with torch.enable_grad():
        found = loss(target.clone().requires_grad_(True), target)
    check_per_image(found, 2, f"loss_function: {describe(loss).removesuffix(CALLABLE)}", "the decoded image")


def fusable(loss: str | Loss) -> tuple[str, float] | None:
    """(name, δ) of the one fused loss that `loss` consists of, or None."""
    terms = parse_loss(loss) if isinstance(loss, str) else []
    if len(terms) != 1 or terms[0].weight != 1.0 or terms[0].name not in FUSED:
        return None
    return terms[0].name, terms[0].parameters.get("delta", HUBER_DELTA)


def build_objective(loss: str | Loss) -> Loss:
    """The function (decoded, target, weight=None) -> (B,) of an expression or of a caller's own function.

    decoded, target: (B, C, *spatial) fp32. weight: (B, 1, *spatial), mean 1 per image. A caller's function
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
