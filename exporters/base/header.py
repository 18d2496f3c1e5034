"""The provenance of a dataset: what every file states about the run it comes from."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DatasetSettings:
    """The settings of a run that determine its pictures and how they were read; without any path of the machine."""

    size: int | tuple[int, int] | None  # side of the square targets, or (width, height), in pixels; None: several sizes
    fit: str  # how pictures got that size: crop, pad or none
    background: str  # colour behind transparent pixels and beside padded pictures
    flip: bool  # whether each picture was optimised mirrored left-right too
    limit: int | None  # maximum number of pictures of each split; None: all
    seed: int  # torch's random seed
    preset: str | None  # name of the preset that the configuration was made from


@dataclass(frozen=True)
class Header:
    """The provenance that every file states about its run; JSON-ready except for `settings`."""

    created: str  # when the run began: ISO 8601, UTC
    relatent_version: str
    vae: dict[str, Any]  # Autoencoder.identity()
    config: dict[str, Any]  # OptimizationConfig.to_dict()
    latents: dict[str, Any] = field(default_factory=dict)  # LatentReport.summary(); empty in shards
    settings: DatasetSettings | None = None  # None if the records do not come from a run
    classes: tuple[str, ...] = ()  # sorted, see `labels`; empty unless the format needs them (`Exporter.needs_classes`)
    splits: tuple[str, ...] = ()  # in the order of the run; empty as for classes

    @property
    def size(self) -> int | tuple[int, int] | None:
        """Side of the square targets, or their (width, height), in pixels; None if there are several sizes, or if the
        records do not come from a run."""
        return None if self.settings is None else self.settings.size
