"""Records: the result of one picture in plain numpy, the unit that shards and exporters take."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .inputs.views import PLAIN, VIEWS, View

METRICS = (
    "initial_psnr",
    "final_psnr",
    "psnr_improvement",
    "initial_ssim",
    "final_ssim",
    "ssim_improvement",
    "loss_reduction",
    "initial_psnr_8bit",
    "final_psnr_8bit",
    "initial_ssim_8bit",
    "final_ssim_8bit",
)
IMAGES = ("original", "initial", "optimized")


@dataclass
class Outcome:
    """The result of optimising one target. Latents are (C, h, w) fp32, unscaled."""

    initial_latents: np.ndarray
    optimized_latents: np.ndarray
    losses: list[float]
    convergence_iteration: int | None
    stop_reason: str
    metrics: dict[str, float]  # by METRICS


@dataclass
class Record(Outcome):
    """A finished picture: its own fields are the outcome of the plain view; images are uint8 (H, W, 3)."""

    name: str
    split: str
    source_path: str
    original_size: tuple[int, int]  # height, width before fitting
    source_sha256: str = ""  # of the file the picture was read from, "" where it is not known
    conversions: tuple[str, ...] = ()
    images: dict[str, np.ndarray] = field(default_factory=dict)  # by IMAGES, empty where they are not kept
    views: dict[str, Outcome] = field(default_factory=dict)  # of the run's other views, by their names in `VIEWS`
    caption: str = ""  # the text beside the picture, "" where there is none
    mask: np.ndarray | None = None  # uint8 (H, W), the weight of each pixel of the plain view; None without --masks
    target: np.ndarray | None = None  # uint8 (H, W, 3), what the latents were optimised for; not read back from files

    @property
    def nbytes(self) -> int:
        """The number of bytes of the plain view's latents, of the images and of the mask."""
        arrays = [self.initial_latents, self.optimized_latents, *self.images.values()]
        arrays += [] if self.mask is None else [self.mask]
        return sum(array.nbytes for array in arrays)

    def all_views(self) -> list[tuple[View, Outcome]]:
        """Each view and its outcome: the plain one first, the others in the order of `VIEWS`."""
        others = [(view, self.views[name]) for name, view in VIEWS.items() if name in self.views]
        return [(VIEWS[PLAIN], self), *others]


def outcomes_by_view(records: Iterable[Record]) -> list[tuple[View, list[Outcome]]]:
    """Each view and its outcomes, one of each record in their order, the plain view first. All records of a run have the
    same views. Empty for no records."""
    found: dict[str, list[Outcome]] = {}
    for record in records:
        for view, outcome in record.all_views():
            found.setdefault(view.name, []).append(outcome)
    return [(VIEWS[name], outcomes) for name, outcomes in found.items()]


@dataclass(frozen=True)
class Failure:
    """A picture that failed, and the reason."""

    name: str
    split: str
    source_path: str
    stage: str  # load, encode or optimize
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("name", "split", "source_path", "stage", "reason")}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Failure":
        """Return the failure of these values, the inverse of `to_dict`; other keys are ignored."""
        return cls(*(values[key] for key in ("name", "split", "source_path", "stage", "reason")))
