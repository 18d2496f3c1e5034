"""The exporter protocol of all formats: begin, write batches of records, commit; and the properties a run checks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from ...engine.errors import UsageError
from ...engine.records import Record
from ...engine.runtime.atomic import discard, publish, temporary_name
from .header import Header
from .registry import FORMATS

SCHEMA = "relatent/1"
RUN_FILES = ("run.json", "run.lock", "plan.jsonl", "ledger.jsonl", "shards", "report.html")  # under OUT: the run's own


class Exporter(ABC):
    """Writer of one dataset to `destination`, by `begin`, `write` with batches of records, and `commit`.

    As a context manager it calls `begin` on entry and `commit` or `rollback` on exit. The dataset is written under a
    temporary name until `commit` publishes it by an atomic rename. `rollback`, or an exception in the block, publishes
    nothing and leaves an older `destination` unchanged. A format implements `open`, `write` and `close`, and `abort` if
    it holds a file open.
    """

    latents_scaled: bool = (
        False  # whether latents are stored scaled; a format may decide it by the autoencoder, in `open`
    )
    needs_images: ClassVar[bool] = False  # whether it stores the pictures themselves
    needs_flip: ClassVar[bool] = False  # whether it stores the latents of the mirrored pictures
    needs_crop: ClassVar[bool] = False  # whether pictures must be cut to size, not padded
    needs_square: ClassVar[bool] = False  # whether its consumer takes squares of one size only
    streams: ClassVar[bool] = True  # whether records can be written while the run makes them; otherwise only at its end
    needs_classes: ClassVar[bool] = False  # whether the header must hold classes and splits before the first record
    links_shards: ClassVar[bool] = False  # whether it can be virtual, over the run's shards (see --single-file)

    def __init__(self, destination: Path, header: Header):
        self.destination, self.header = destination, header
        self.temporary = temporary_name(destination)

    @abstractmethod
    def open(self) -> None:
        """Create the file or folder at `self.temporary`."""

    @abstractmethod
    def write(self, records: list[Record]) -> None:
        """Append the records of finished pictures."""

    @abstractmethod
    def close(self) -> None:
        """Complete the file or folder at `self.temporary`, and verify it."""

    def abort(self) -> None:  # noqa: B027 - only exporters that hold a file open need it
        """Close the files that `open` has opened, whether or not they are complete."""

    def check_destination(self) -> None:
        """Raise `UsageError` if publishing would replace something that no export has written; here, a folder."""
        if self.destination.is_dir():
            raise UsageError(f"{self.destination} is a folder, and this format writes a file: choose another DEST")

    @classmethod
    def run_began(cls, place: Path) -> str | None:
        """Return when the run began of which `place` states that it is a dataset in this format; None if it does not. What
        states nothing is never replaced outside of a run's folder."""
        return None

    @classmethod  # noqa: B027 - most formats take any
    def check_vae(cls, vae: dict[str, Any]) -> None:
        """Raise `UsageError` if the format's consumer has no model for latents of an autoencoder of this identity."""

    @classmethod  # noqa: B027 - most formats have no limit
    def check_capacity(cls, sample_bytes: int) -> None:
        """Raise `UsageError` if this machine cannot write a dataset of that size.

        sample_bytes: total size in bytes of all latents, fp32, and of the original pictures, uint8.
        """

    @classmethod  # noqa: B027 - most formats have no limit
    def check_shards(cls, shards: Sequence[Path]) -> None:
        """Raise `UsageError` if this machine cannot write a dataset of the pictures in these shards."""

    @classmethod
    def write_from_shards(cls, destination: Path, shards: Sequence[Path], header: Header) -> bool:
        """Write a virtual dataset over the shards, and return whether the format supports that.

        False, the default, means that nothing was written: the records have to be written in batches.
        """
        return False

    @classmethod
    def verify_links(cls, place: Path) -> str | None:
        """Return what is wrong with the links of the dataset at `place` to its shards; None if nothing is."""
        return None

    def begin(self) -> None:
        """Start writing. Raises `UsageError` if `destination` holds something that no export has written, and for an
        autoencoder that the format's consumer does not know.
        """
        self.check_vae(self.header.vae)
        self.check_destination()
        self.destination.parent.mkdir(parents=True, exist_ok=True)
        discard(self.temporary)
        try:
            self.open()
        except BaseException:
            discard(self.temporary)
            raise

    def commit(self) -> None:
        """Complete the dataset and publish it at `destination`; if that fails, raise and leave no new file."""
        try:
            self.close()
            self.check_destination()  # checked again, since writing may have taken hours
            publish(self.temporary, self.destination)
        finally:
            discard(self.temporary)

    def rollback(self) -> None:
        """Discard what was written since `begin`."""
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
    """Return the names without duplicates. Raises `UsageError` for a format that does not exist."""
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"unknown format {name!r}; expected one of {', '.join(FORMATS)}")
    return list(dict.fromkeys(names))


def check_needs(names: list[str], keep_images: bool, flip: bool, fit: str, square: bool) -> None:
    """Raise `UsageError` if a run with these settings cannot be exported as one of `names`.

    square: whether all targets are squares of one size.
    """
    for name in names:
        kind = exporter_class(name)
        if kind.needs_images and not keep_images:
            raise UsageError(f"{name} needs the pictures: leave out --no-images, or the format {name}")
        if kind.needs_flip and not flip:
            raise UsageError(f"{name} needs mirrored latents: add --flip, or leave out the format {name}")
        if kind.needs_crop and fit == "pad":
            raise UsageError(f"{name} is for a trainer that crops: use --fit crop, or leave out the format {name}")
        if kind.needs_square and not square:
            raise UsageError(
                f"{name} is for a trainer of squares of one size: use --size N, or leave out the format {name}"
            )


def exporter_class(name: str) -> type[Exporter]:
    """Return the exporter class of a format. Raises `UsageError` for a format that does not exist."""
    check_formats([name])
    module, kind, _ = FORMATS[name]
    found: type[Exporter] = getattr(import_module(f"..{module}", __package__), kind)
    return found


def _is_of_a_run(place: Path) -> bool:
    """Return whether this path is that of a file, or in the shards, of a run."""
    return any(own.name in RUN_FILES and (own.parent / "run.json").exists() for own in (place, place.parent))


def make_exporter(name: str, out: Path, header: Header, destination: Path | None = None) -> Exporter:
    """Return the exporter of a format for its usual place under `out`, or for `destination`.

    Raises `UsageError` if `destination` is a file of a run itself, of this one or of another.
    """
    usual = out / FORMATS[name][2]
    place = usual if destination is None else destination
    if place.resolve() != usual.resolve() and _is_of_a_run(place.resolve()):
        raise UsageError(f"{place} is a file of a run itself: choose another DEST")
    return exporter_class(name)(place, header)
