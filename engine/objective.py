"""What is minimised: per-image losses by name, and weighted sums of them. A new loss is one function and one line."""

import re
from collections.abc import Callable

import torch
import torch.nn.functional as F

from .errors import UsageError
from .metrics import ssim

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

HUBER_DELTA = 0.1  # in the [-1, 1] range: 13 grey levels of 255, beyond which an error counts linearly


def mse(decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error over channels and pixels, unclamped, so a pixel out of range is still pulled back."""
    return (decoded - target).square().flatten(1).mean(1)


def l1(decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute error."""
    return (decoded - target).abs().flatten(1).mean(1)


def huber(decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Huber's loss with δ = `HUBER_DELTA`: ½e² inside, δ(|e| − ½δ) outside."""
    return F.huber_loss(decoded, target, reduction="none", delta=HUBER_DELTA).flatten(1).mean(1)


def psnr(decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Negative PSNR in dB for a range of 2: the MSE's logarithm, so bright and dark errors weigh by ratio."""
    return 10.0 * torch.log10((mse(decoded, target) / 4.0).clamp_min(1e-10))


def ssim_loss(decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 − SSIM (Wang et al., 2004; Gaussian window 11, σ 1.5)."""
    return 1.0 - ssim(decoded, target)


LOSSES: dict[str, Loss] = {"mse": mse, "l1": l1, "huber": huber, "psnr": psnr, "ssim": ssim_loss}

_TERM = re.compile(r"(?:(?P<weight>[0-9.]+(?:e[+-]?[0-9]+)?)\s*\*\s*)?(?P<name>[a-z_0-9]+)", re.IGNORECASE)


def parse_loss(expression: str) -> list[tuple[float, str]]:
    """Split "mse + 0.1*l1" into [(1.0, "mse"), (0.1, "l1")]. Raises `UsageError` for anything else."""
    terms = []
    for text in str(expression).split("+"):
        match = _TERM.fullmatch(text.strip())
        if match is None or match["name"] not in LOSSES:
            raise UsageError(
                f"loss_function: cannot read {text.strip()!r} in {expression!r}; "
                f"expected names or a weighted sum such as 'mse + 0.1*l1', of {', '.join(LOSSES)}"
            )
        terms.append((_weight(match["weight"], expression), match["name"]))
    return terms


def _weight(text: str | None, expression: str) -> float:
    try:
        weight = 1.0 if text is None else float(text)
    except ValueError:
        weight = 0.0
    if weight <= 0.0:
        raise UsageError(f"loss_function: the weight {text!r} in {expression!r} must be a number above 0")
    return weight


FUSED = ("mse", "l1", "huber")  # what `kernels/fused_loss.py` computes together with its gradient


def fusable(expression: str) -> str | None:
    """The name of the one fused loss that `expression` consists of, or None."""
    terms = parse_loss(expression)
    return terms[0][1] if len(terms) == 1 and terms[0][0] == 1.0 and terms[0][1] in FUSED else None


def build_objective(expression: str) -> Loss:
    """The function (decoded, target) -> (B,) of an expression; both (B, C, *spatial) fp32 in [-1, 1]."""
    terms = [(weight, LOSSES[name]) for weight, name in parse_loss(expression)]

    def objective(decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        parts = [weight * loss(decoded, target) for weight, loss in terms]
        return torch.stack(parts).sum(0)

    return objective
