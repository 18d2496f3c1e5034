"""The one protocol of all formats: open, write batches of records, close."""

from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from ...engine.errors import UsageError
from ...engine.records import Record
from ..files.atomic import discard, publish, temporary_name
from .header import Header
from .registry import FORMATS

SCHEMA = "relatent/1"
FLIPPED = "_flipped"  # behind the names of what belongs to the mirrored pictures, where a run optimised them too
RUN_FILES = ("run.json", "run.lock", "plan.jsonl", "ledger.jsonl", "shards", "report.html")  # under OUT: the run's own


class Exporter(ABC):
    """Writes one dataset to `destination`, under a temporary name until `close`. A context manager.

    A block that ends in an exception publishes nothing and leaves an older `destination` as it was. Raises `UsageError`
    before anything is written where `destination` holds what is not ours.
    """

    latents_scaled: ClassVar[bool] = False  # whether latents are stored times the autoencoder's scaling factor
    needs_images: ClassVar[bool] = False  # the pictures themselves
    needs_flip: ClassVar[bool] = False  # the mirrored pictures' own latents
    needs_crop: ClassVar[bool] = False  # pictures cut to size, not padded
    streams: ClassVar[bool] = True  # takes records as they get done; else all that is needed is there at the end alone
    needs_classes: ClassVar[bool] = False  # classes and splits in the header, before the first record

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

    def check_destination(self) -> None:
        """Raise `UsageError` where publishing would take the place of what is not ours: here, of a folder."""
        if self.destination.is_dir():
            raise UsageError(f"{self.destination} is a folder, and this format writes a file: choose another DEST")

    def __enter__(self) -> Self:
        self.check_destination()
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
                self.check_destination()  # again: writing may have taken hours
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


def check_needs(names: list[str], keep_images: bool, flip: bool, fit: str) -> None:
    """Raise `UsageError` where a run with these settings could not be exported as one of `names`."""
    for name in names:
        kind = exporter_class(name)
        if kind.needs_images and not keep_images:
            raise UsageError(f"{name} needs the pictures: leave out --no-images, or the format {name}")
        if kind.needs_flip and not flip:
            raise UsageError(f"{name} needs mirrored latents: add --flip, or leave out the format {name}")
        if kind.needs_crop and fit == "pad":
            raise UsageError(f"{name} is for a trainer that crops: use --fit crop, or leave out the format {name}")


def exporter_class(name: str) -> type[Exporter]:
    """Of a format. Raises `UsageError` for one that does not exist."""
    check_formats([name])
    module, kind, _ = FORMATS[name]
    found: type[Exporter] = getattr(import_module(f"..{module}", __package__), kind)
    return found


def make_exporter(name: str, out: Path, header: Header, destination: Path | None = None) -> Exporter:
    """The exporter of a format, for its usual place under `out` or for `destination`, which must be no file of the run."""
    if destination is not None:
        place = destination.resolve()
        if place.parent == (out / "shards").resolve() or place in [(out / own).resolve() for own in RUN_FILES]:
            raise UsageError(f"{destination} is a file of the run itself: choose another DEST")
    return exporter_class(name)(destination or out / FORMATS[name][2], header)
