"""What a section is: cells, each prepared (compiled) beside others and then measured alone on the device."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

Result = dict[str, Any]  # JSON-ready
Rates = dict[str, float] | None  # what `timing.ceilings` measured first; None where it was not
Measurement = Callable[[Rates], Result]


class Section(Protocol):
    """The module of a section. An exception of `prepare` or of the measurement is the error of that cell only; so is the
    text under "error" in a result, which keeps the figures."""

    @property
    def NEEDS_GPU(self) -> str:
        """Why a CPU cannot run it; empty where it can."""

    def cells(self, quick: bool) -> list[tuple[str, float, dict[str, Any]]]:
        """Return name, expected seconds of the measurement on a GPU, and the arguments of `prepare` of each cell, the most
        important first. quick: tiny sizes that any processor runs."""

    def prepare(self, device: torch.device, quick: bool, *arguments: Any, **options: Any) -> Measurement:
        """Make everything that is measured, compiled code too, and return the measurement."""


@dataclass(frozen=True)
class Cell:
    """One cell of the plan."""

    section: str
    name: str
    seconds: float
    arguments: dict[str, Any] = field(default_factory=dict)
