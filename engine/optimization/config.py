"""The settings of the optimiser: one frozen dataclass, validated on construction, stored whole in every file."""

import dataclasses
import json
import math
import tomllib
import warnings
from collections.abc import Callable, Iterable
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
COMPILE = ("auto", "on", "off")
SCHEDULES = ("constant", "cosine", "linear", "trapezoid")


@dataclass(frozen=True)
class OptimizationConfig:
    """How latents are optimised. The cost of an iteration is one decoder forward and one backward per image.

    What each field means, and its unit, stands beside it. Raises `UsageError` for values out of range and names unknown.
    """

    iterations: int = 50  # gradient steps per image; cost is proportional
    learning_rate: float | None = None  # in the latent's own unit; None: relative_learning_rate × σ of each image's z0
    relative_learning_rate: float = (
        0.12  # in units of σ, the spread of the image's initial latent; only without the above
    )
    schedule: str = "trapezoid"  # of the rate over the iterations: constant, or down to 0 by cosine, linear, or
    # trapezoid: constant for 60 % of them, then linear
    precondition: bool = (
        True  # optimise in coordinates in which the decoder is equally sensitive; see calibration/preconditioner.py
    )
    betas: tuple[float, float] = (0.8, 0.95)  # Adam's decay rates; shorter memory than (0.9, 0.999) suits short runs
    initial_beta: float = 0.4  # Adam's first decay rate at the first iteration
    beta_rise: int = 15  # iterations over which it rises, linearly, to betas[0]; 0: betas[0] from the first
    eps: float = 1e-8  # Adam's denominator offset
    relative_eps: float = (
        0.2  # added to it, in units of the RMS of the image's gradient: values that matter little rest
    )
    start: str = (
        "encoder"  # where the iterations start: the encoder's latents; tuned, or a file: see tuning/tuned_encoder.py
    )
    warm_start: int = 1  # steps of the encoder's own correction before the first iteration; see warm_start.py
    warm_start_rate: float = 0.6  # how much of that correction a step takes
    loss_function: str | Callable[..., Any] = (
        "mse"  # names and their weighted sum, "mse + 0.1*ssim(window=7)"; or (decoded, target) -> (B,)
    )
    regularisers: str | Callable[..., Any] = (
        ""  # of the latent, added to the loss: "0.1*l2_to_init + 0.01*tv", prior, spectrum; or (latents, initial, step) -> (B,)
    )
    convergence_threshold: float = (
        1e-3  # relative loss improvement over the window below which an image is done; 0: never
    )
    convergence_window: int = 10  # iterations over which that improvement is measured
    checkpoint_interval: int = 10  # iterations between two looks of the host at the device (progress, early exit)
    target_gain: float | None = None  # dB of PSNR over the start at which an image is done; None: no target
    target_psnr: float | None = None  # dB of PSNR at which it is done; with both targets, whichever is reached first
    max_gradient_norm: float | None = None  # each image's gradient is clipped to this norm; None: not clipped
    precision: str = "auto"  # of the decoder in the loop: fp32, bf16, fp16; auto: bf16 where the processor has it
    gradient_error: float = (
        0.08  # how far off a gradient may be, relatively, to be cheaper; 0: exact; see low_rank_backward.py
    )
    refinement_iterations: int | None = (
        None  # the last so many in fp32 and with exact gradients, after others; None: 26 % on CPU
    )
    recompute: bool = False  # half the memory, for a second forward pass; the iteration is then not compiled
    tile: int | None = None  # side in pixels of overlapping tiles that are decoded one by one, for pictures that do not
    # fit in memory; recomputes too, and is not compiled; None: whole pictures
    compile: str = "auto"  # on: compile the iteration, and capture it on CUDA; off: eager; auto: on for CUDA
    polish_iterations: InitVar[int | None] = None  # deprecated name of refinement_iterations, accepted with a warning

    def __post_init__(self, polish_iterations: int | None) -> None:
        if polish_iterations is not None:
            warnings.warn(
                "polish_iterations is now called refinement_iterations; the old name will go in a later version",
                FutureWarning,
                stacklevel=3,
            )
            object.__setattr__(self, "refinement_iterations", polish_iterations)
        if isinstance(self.betas, Iterable):  # anything else is refused below
            object.__setattr__(self, "betas", tuple(self.betas))
        _at_least("iterations", self.iterations, 1)
        _at_least("convergence_window", self.convergence_window, 1)
        _at_least("checkpoint_interval", self.checkpoint_interval, 1)
        _at_least("beta_rise", self.beta_rise, 0)
        _at_least("warm_start", self.warm_start, 0)
        if not isinstance(self.start, str) or not self.start:
            raise UsageError(f"start: expected encoder, tuned or the path of a tuned encoder, found {self.start!r}")
        _positive("warm_start_rate", self.warm_start_rate)
        _positive("relative_learning_rate", self.relative_learning_rate)
        _positive("eps", self.eps)
        if not (_is_number(self.relative_eps) and self.relative_eps >= 0.0):
            raise UsageError(f"relative_eps: expected a number of at least 0, found {self.relative_eps!r}")
        if not (_is_number(self.gradient_error) and 0.0 <= self.gradient_error < 1.0):
            raise UsageError(
                f"gradient_error: expected a fraction in [0, 1), found {self.gradient_error!r}; 0 keeps gradients exact"
            )
        if self.learning_rate is not None:
            _positive("learning_rate", self.learning_rate)
        for name in ("target_gain", "target_psnr"):
            if (value := getattr(self, name)) is not None:
                _positive(name, value)
        self._check_betas()
        if not (_is_number(self.convergence_threshold) and 0.0 <= self.convergence_threshold < 1.0):
            raise UsageError(
                f"convergence_threshold: expected a fraction in [0, 1), found {self.convergence_threshold!r}; 0 turns it off"
            )
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision: expected one of {', '.join(PRECISIONS)}, found {self.precision!r}")
        if self.schedule not in SCHEDULES:
            raise UsageError(f"schedule: expected one of {', '.join(SCHEDULES)}, found {self.schedule!r}")
        if self.compile not in COMPILE:
            raise UsageError(f"compile: expected one of {', '.join(COMPILE)}, found {self.compile!r}")
        if not (_is_number(self.initial_beta) and 0.0 <= self.initial_beta < 1.0):
            raise UsageError(f"initial_beta: expected a number in [0, 1), found {self.initial_beta!r}")
        for name in ("recompute", "precondition"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name}: expected true or false, found {getattr(self, name)!r}")
        self._check_memory()
        if self.max_gradient_norm is not None:
            _positive("max_gradient_norm", self.max_gradient_norm)
        if self.refinement_iterations is not None:
            _at_least("refinement_iterations", self.refinement_iterations, 0)
        from ..losses.registry import parse_loss
        from ..losses.regularisers import parse_regularisers

        if not callable(self.loss_function):
            parse_loss(self.loss_function)
        if not callable(self.regularisers):
            parse_regularisers(self.regularisers)

    def _check_betas(self) -> None:
        """Raise `UsageError` unless they are two decay rates."""
        betas: Any = self.betas  # whatever a file of settings has in their place
        rates = isinstance(betas, tuple) and all(_is_number(beta) and 0.0 <= beta < 1.0 for beta in betas)
        if not rates or len(betas) != 2:
            raise UsageError(f"betas: expected two numbers in [0, 1), found {betas!r}")

    def _check_memory(self) -> None:
        """Raise `UsageError` for settings that save memory and exclude each other."""
        if self.tile is not None:
            _at_least("tile", self.tile, 1)
        if (self.recompute or self.tile is not None) and self.compile == "on":
            name = "recompute" if self.recompute else "tile"
            raise UsageError(f"{name} and compile = on exclude each other: the compiler undoes it; use compile = auto")

    @property
    def has_target(self) -> bool:
        """Whether an image can stop by reaching a target quality."""
        return self.target_gain is not None or self.target_psnr is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-ready; `from_dict` is the inverse, except that a loss or regulariser that is a function is
        named only."""
        from ..losses.expression import describe

        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {
            "betas": list(self.betas),
            "loss_function": describe(self.loss_function),
            "regularisers": describe(self.regularisers),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "OptimizationConfig":
        """Return the configuration with these fields. Raises `UsageError` naming any field that does not exist."""
        known = {field.name for field in dataclasses.fields(cls)} | {"polish_iterations"}
        if unknown := sorted(set(values) - known):
            raise UsageError(f"unknown setting {', '.join(unknown)}; the settings are {', '.join(sorted(known))}")
        return cls(**values)

    @classmethod
    def from_file(cls, path: str | Path, **overrides: Any) -> "OptimizationConfig":
        """Return the configuration that a file sets, with `overrides`. Raises `UsageError` for a file that does not parse."""
        return cls.from_dict(read_settings(path) | overrides)


def read_settings(path: str | Path) -> dict[str, Any]:
    """Return the fields that a TOML or JSON file sets, not yet validated. Raises `UsageError` for a file that does not parse."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the configuration {path}: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"the configuration {path} must be a table of settings, found {type(values).__name__}")
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _positive(name: str, value: Any) -> None:
    if not _is_number(value) or value <= 0:
        raise UsageError(f"{name}: expected a number above 0, found {value!r}")


def _at_least(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{name}: expected a whole number of at least {least}, found {value!r}")
