"""Views of a picture: each is a target of its own, with latents of its own, beside the picture as it is.

A line in `VIEWS` is all that a further view needs: the batcher, the shards, the readers and those formats that treat all
views alike go by its name and its suffix.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:  # records import this file, and `relatent info` does without torch
    import torch

PLAIN, FLIPPED = "plain", "flipped"


@dataclass(frozen=True)
class View:
    """One way of looking at a picture."""

    name: str  # in lists of views, and as the key of its outcome in records and JSON
    suffix: str  # behind the names of columns and files that belong to it
    apply: "Callable[[torch.Tensor], torch.Tensor]"  # pixels (…, H, W, C) of any dtype -> those of the view
    description: str = ""  # a participle first, for sentences; "" where the name is one

    def apply_to_planes(self, planes: "torch.Tensor") -> "torch.Tensor":
        """Apply the view to (…, H, W): weights (B, 1, H, W), or targets (B, 3, H, W)."""
        return self.apply(planes.unsqueeze(-1)).squeeze(-1)

    @property
    def phrase(self) -> str:
        """What was done to the picture, such as "mirrored left-right"."""
        return self.description or self.name

    @property
    def label(self) -> str:
        """The first word of `phrase`, such as "mirrored"."""
        return self.phrase.split()[0]


def _as_it_is(pixels: "torch.Tensor") -> "torch.Tensor":
    return pixels


def _mirror(pixels: "torch.Tensor") -> "torch.Tensor":
    return pixels.flip(-2)


VIEWS: dict[str, View] = {
    PLAIN: View(PLAIN, "", _as_it_is),
    FLIPPED: View(FLIPPED, "_flipped", _mirror, "mirrored left-right"),
}


def run_views(flip: bool) -> tuple[str, ...]:
    """Return the names of a run's views, by its options."""
    return (PLAIN, FLIPPED) if flip else (PLAIN,)


def resolve_views(names: Iterable[str]) -> list[View]:
    """Return the views of these names. Raises `UsageError` for one that does not exist, or where the first is not `plain`."""
    names = list(dict.fromkeys(names))
    unknown = [name for name in names if name not in VIEWS]
    if unknown:
        raise UsageError(f"unknown view {unknown[0]!r}; expected one of {', '.join(VIEWS)}")
    if names[:1] != [PLAIN]:
        raise UsageError(f"views: expected {PLAIN!r} first, found {names}")
    return [VIEWS[name] for name in names]
