"""What every file says of the run that it comes from."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DatasetSettings:
    """The settings of a run that decide which pictures it has and how they were read; no path of the machine."""

    size: int  # side of the square targets, in pixels
    fit: str  # how pictures got that size: crop, pad or none
    background: str  # colour behind transparent pixels and beside padded pictures
    flip: bool  # whether each picture was optimised mirrored left-right too
    limit: int | None  # pictures of each split at the most; None: all
    seed: int  # torch's
    preset: str | None  # name of the preset that the configuration was made from


@dataclass(frozen=True)
class Header:
    """What every file says of the run that it comes from; JSON-ready but for `settings`."""

    created: str  # when the run began: ISO 8601, UTC
    relatent_version: str
    vae: dict[str, Any]  # Autoencoder.identity()
    config: dict[str, Any]  # OptimizationConfig.to_dict()
    latents: dict[str, Any] = field(default_factory=dict)  # LatentReport.summary(); empty in shards
    settings: DatasetSettings | None = None  # None where the records come from no run
    classes: tuple[str, ...] = ()  # sorted, see `labels`; empty for formats that do not ask (`Exporter.needs_classes`)
    splits: tuple[str, ...] = ()  # in the run's order; empty as above

    @property
    def size(self) -> int | None:
        """Side of the square targets in pixels; None where the records come from no run."""
        return None if self.settings is None else self.settings.size
