"""The one protocol of all formats: open, write batches of records, close. A new format is one file and one line."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..engine.errors import UsageError
from ..engine.records import Record
from .atomic import discard, publish, temporary_name

SCHEMA = "relatent/1"
FLIPPED = "_flipped"  # behind the names of what belongs to the mirrored pictures, where a run optimised them too

# name -> module, class, and the name under OUT
FORMATS: dict[str, tuple[str, str, str]] = {
    "hdf5": ("hdf5", "HDF5Exporter", "dataset.h5"),
    "png": ("png", "PNGExporter", "png"),
    "pt": ("pt", "PTExporter", "dataset.pt"),
}


@dataclass(frozen=True)
class Header:
    """What every file says of the run it comes from; all JSON-ready."""

    created: str  # ISO 8601, UTC
    relatent_version: str
    vae: dict[str, Any]  # Autoencoder.identity()
    config: dict[str, Any]  # OptimizationConfig.to_dict()
    latents: dict[str, Any] = field(default_factory=dict)  # LatentReport.summary(); empty in shards

    @classmethod
    def from_run(cls, run: dict[str, Any]) -> "Header":
        """From the contents of run.json."""
        return cls(run["created"], run["versions"]["relatent"], run["vae"], run["config"], run.get("latents", {}))


class Exporter(ABC):
    """Writes one dataset to `destination`, under a temporary name until `close`. A context manager.

    A block that ends in an exception publishes nothing and leaves an older `destination` as it was.
    """

    def __init__(self, destination: Path, header: Header):
        self.destination, self.header = destination, header
        self.temporary = temporary_name(destination)

    @abstractmethod
    def open(self) -> None:
        """Begin, at `self.temporary`."""

    @abstractmethod
    def write(self, records: list[Record]) -> None:
        """Append finished pictures."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file or folder at `self.temporary`, and check it."""

    def abort(self) -> None:  # noqa: B027 - only exporters that hold a file open need it
        """Let go of what `open` holds."""

    def __enter__(self) -> Self:
        self.destination.parent.mkdir(parents=True, exist_ok=True)
        discard(self.temporary)
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.close()
                publish(self.temporary, self.destination)
            else:
                self.abort()
        finally:
            discard(self.temporary)


def check_formats(names: list[str]) -> list[str]:
    """The names without repetition. Raises `UsageError` for one that does not exist."""
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"unknown format {name!r}; expected one of {', '.join(FORMATS)}")
    return list(dict.fromkeys(names))


def make_exporter(name: str, out: Path, header: Header, destination: Path | None = None) -> Exporter:
    """The exporter of a format, for its usual place under `out` or for `destination`."""
    check_formats([name])
    module, kind, default = FORMATS[name]
    exporter: Exporter = getattr(import_module(f".{module}", __package__), kind)(destination or out / default, header)
    return exporter
