"""The one protocol of all formats: begin, write batches of records, commit; and what a run asks of a format."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
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
RUN_FILES = ("run.json", "run.lock", "plan.jsonl", "ledger.jsonl", "shards", "report.html")  # under OUT: the run's own


class Exporter(ABC):
    """Writes one dataset to `destination`: `begin`, `write` batches of records, `commit`; or a context manager.

    The dataset is written under a temporary name until `commit` publishes it. `rollback`, or a block that ends in an
    exception, publishes nothing and leaves an older `destination` as it was. A format implements `open`, `write` and
    `close`, and `abort` where it holds a file open.
    """

    latents_scaled: ClassVar[bool] = False  # whether latents are stored times the autoencoder's scaling factor
    needs_images: ClassVar[bool] = False  # whether it stores the pictures themselves
    needs_flip: ClassVar[bool] = False  # whether it stores the mirrored pictures' own latents
    needs_crop: ClassVar[bool] = False  # whether pictures must be cut to size, not padded
    streams: ClassVar[bool] = True  # whether it can take records while the run makes them; else only at its end
    needs_classes: ClassVar[bool] = False  # whether classes and splits are in the header before the first record
    links_shards: ClassVar[bool] = False  # whether it can point to the run's shards; --single-file is for these

    def __init__(self, destination: Path, header: Header):
        self.destination, self.header = destination, header
        self.temporary = temporary_name(destination)

    @abstractmethod
    def open(self) -> None:
        """Create the file or folder at `self.temporary`."""

    @abstractmethod
    def write(self, records: list[Record]) -> None:
        """Append finished pictures."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file or folder at `self.temporary`, and check it."""

    def abort(self) -> None:  # noqa: B027 - only exporters that hold a file open need it
        """Close the files that `open` has opened, finished or not."""

    def check_destination(self) -> None:
        """Raise `UsageError` where publishing would replace what no export has written; here, a folder."""
        if self.destination.is_dir():
            raise UsageError(f"{self.destination} is a folder, and this format writes a file: choose another DEST")

    @classmethod  # noqa: B027 - most formats have no limit
    def check_capacity(cls, sample_bytes: int) -> None:
        """Raise `UsageError` where this machine cannot write a dataset of that size.

        sample_bytes: of all latents, fp32, and of the original pictures, uint8.
        """

    @classmethod  # noqa: B027 - as above
    def check_shards(cls, shards: Sequence[Path]) -> None:
        """Raise `UsageError` where this machine cannot write a dataset of these shards' pictures."""

    @classmethod
    def write_from_shards(cls, destination: Path, shards: Sequence[Path], header: Header) -> bool:
        """Write a dataset that points to the shards; return whether the format could.

        False, the default, means that nothing was written: the records have to be written one by one.
        """
        return False

    @classmethod
    def verify_links(cls, place: Path) -> str | None:
        """Return what is wrong with how the dataset at `place` points to its shards; None: nothing."""
        return None

    def begin(self) -> None:
        """Start to write. Raises `UsageError` where `destination` holds what no export has written."""
        self.check_destination()
        self.destination.parent.mkdir(parents=True, exist_ok=True)
        discard(self.temporary)
        self.open()

    def commit(self) -> None:
        """Finish the dataset and publish it at `destination`, or raise and leave nothing new."""
        try:
            self.close()
            self.check_destination()  # again: writing may have taken hours
            publish(self.temporary, self.destination)
        finally:
            discard(self.temporary)

    def rollback(self) -> None:
        """Give up what was written since `begin`."""
        try:
            self.abort()
        finally:
            discard(self.temporary)

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.rollback()


def check_formats(names: list[str]) -> list[str]:
    """Return the names without repetition. Raises `UsageError` for one that does not exist."""
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
    """Return the exporter class of a format. Raises `UsageError` for a format that does not exist."""
    check_formats([name])
    module, kind, _ = FORMATS[name]
    found: type[Exporter] = getattr(import_module(f"..{module}", __package__), kind)
    return found


def make_exporter(name: str, out: Path, header: Header, destination: Path | None = None) -> Exporter:
    """Return the exporter of a format for its usual place under `out`, or for `destination`.

    Raises `UsageError` where `destination` is a file of the run itself.
    """
    if destination is not None:
        place = destination.resolve()
        if place.parent == (out / "shards").resolve() or place in [(out / own).resolve() for own in RUN_FILES]:
            raise UsageError(f"{destination} is a file of the run itself: choose another DEST")
    return exporter_class(name)(destination or out / FORMATS[name][2], header)
