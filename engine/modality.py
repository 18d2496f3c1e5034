"""What a decoder's outputs are: their value range, how good one is, and which targets are refused.

The optimisation loop knows outputs only through a `Modality`. This one serves any output (B, C, *spatial) with a known
range; `engine/pictures.py` is the one of RGB pictures. A new modality is one subclass, given to `load_autoencoder`.
"""

from collections.abc import Iterator
from typing import ClassVar

import torch

from .errors import UsageError
from .losses.metrics import mean_squared_error, psnr

TOLERANCE = 5e-4  # of the range: resampling and 16-bit storage overshoot by this much


class Modality:
    """Outputs and targets (B, C, *spatial) with values in [low, high]; their quality is the PSNR for that range."""

    metric_names: ClassVar[tuple[str, ...]] = ("psnr",)  # keys of what `measure` returns
    improvement_names: ClassVar[tuple[str, ...]] = ("psnr",)  # of these, final − initial is reported as well

    def __init__(self, low: float = 0.0, high: float = 1.0, *, name: str = "signals", native_size: int | None = None):
        """name: what messages call the outputs. native_size: the side that decoders are made for, in values; None: unknown.

        Raises `UsageError` unless low < high.
        """
        if not low < high:
            raise UsageError(f"value_range: expected (low, high) with low < high, found {(low, high)}")
        self.low, self.high, self.name, self.native_size = float(low), float(high), name, native_size

    @property
    def value_range(self) -> tuple[float, float]:
        """(low, high) of outputs and targets."""
        return self.low, self.high

    def clamp(self, output: torch.Tensor) -> torch.Tensor:
        """`output` limited to the value range."""
        return output.clamp(self.low, self.high)

    def squared_error(
        self, output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, C, *spatial) twice -> (B,) fp32: mean squared error after clamping. Early stopping is decided on it.

        weight: (B, 1, *spatial) of mean 1 per sample; the mean is then Σ w·e² / Σ w.
        """
        return mean_squared_error(output, target, weight, self.value_range)

    def target_error(self, start: torch.Tensor, gain: float | None, psnr: float | None) -> torch.Tensor:
        """(B,) squared errors of the start -> (B,) those at which a sample is done, by the easier of its two targets.

        gain: dB of PSNR over the start. psnr: dB. Either may be None.
        """
        goal = torch.zeros_like(start)
        if gain is not None:
            goal = start / 10.0 ** (gain / 10.0)
        if psnr is not None:
            goal = goal.clamp_min((self.high - self.low) ** 2 / 10.0 ** (psnr / 10.0))
        return goal

    def measure(
        self, output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """(B, C, *spatial) twice -> `metric_names`, each (B,) fp32, larger is better. weight: as in `squared_error`."""
        return {"psnr": psnr(output, target, weight, self.value_range)}

    def check_targets(self, targets: torch.Tensor, what: str = "targets") -> None:
        """Raise `UsageError` unless `targets` are finite floating-point numbers (B, C, *spatial) in the value range.

        what: how the message calls them.
        """
        if targets.ndim < 3:
            raise UsageError(f"{what}: expected shape (B, C, *spatial), found {tuple(targets.shape)}")
        if not targets.is_floating_point():
            raise UsageError(
                f"{what}: expected floating point in [{self.low:g}, {self.high:g}], found {targets.dtype}; "
                "convert and scale them"
            )
        if not torch.isfinite(targets).all():
            raise UsageError(f"{what}: holds NaN or infinity; expected finite values in [{self.low:g}, {self.high:g}]")
        least, most, slack = targets.min().item(), targets.max().item(), TOLERANCE * (self.high - self.low)
        if least < self.low - slack or most > self.high + slack:
            raise UsageError(
                f"{what}: values from {least:.3g} to {most:.3g} are outside [{self.low:g}, {self.high:g}], the range of "
                f"{self.name}; scale them, or clamp overshoot"
            )

    def typical_target(self, spatial: tuple[int, ...], generator: torch.Generator) -> torch.Tensor | None:
        """A random target (1, C, *spatial) with typical statistics, for calibration; None where there is none."""
        return None

    def calibration_targets(self, spatial: tuple[int, ...]) -> Iterator[torch.Tensor]:
        """Real targets (1, C, *spatial) on which gradients are calibrated; none here."""
        return iter(())
