"""The HDF5 writer of a run's shards and of `dataset.h5`, in one schema (docs/files.md). `reading` reads them."""

import json
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...engine.errors import DatasetError, UsageError
from ...engine.records import IMAGES, METRICS, Outcome, Record, outcomes_by_view
from ..base.exporter import SCHEMA, Exporter
from ..base.header import Header
from .attributes import ChannelMoments, write_header
from .by_size import GROUP, LATENTS, MASK, depends_on_size, group_name, size_groups, target_size
from .columns import TEXT_COLUMNS, WHOLE_MASK, growing
from .deferred_errors import DeferredErrorFile
from .reading import open_file
from .shard_reader import verify_links
from .virtual import write_virtual

HEAD = 65536  # bytes at the beginning that hold the first attributes
SIGNATURE = b"\x89HDF\r\n\x1a\n"
CREATED = re.compile(
    re.escape(SCHEMA).encode() + rb"\0.{,40}?(\d{4}-\d\d-\d\dT[\d:+]{14})", re.DOTALL
)  # see write_header


class HDF5Exporter(Exporter):
    """Writer of an HDF5 file with one sample per chunk.

    A random read thus costs one chunk, and the fletcher32 checksum of the chunk detects a flipped bit.
    """

    streams = False  # dataset.h5 is a virtual dataset over all shards
    links_shards = True

    @property
    def by_size(self) -> bool:
        """Whether the samples have several sizes, so that there is a group for each."""
        return self.header.settings is not None and self.header.settings.size is None

    @classmethod
    def run_began(cls, place: Path) -> str | None:
        # from the bytes, since the file may be damaged, and HDF5 may not come back from an attribute that is
        try:
            with place.open("rb") as file:
                head = file.read(HEAD)
        except OSError:
            return None
        found = CREATED.search(head) if head.startswith(SIGNATURE) else None
        return None if found is None else found[1].decode()

    @classmethod
    def write_from_shards(cls, destination: Path, shards: Sequence[Path], header: Header) -> bool:
        write_virtual(destination, shards, header)
        return True

    @classmethod
    def verify_links(cls, place: Path) -> str | None:
        return verify_links(place)

    def open(self) -> None:
        self.file: h5py.File | None = None
        self.count = 0
        self.attributes: dict[str, Any] = {}  # further root attributes, written as JSON

    def write(self, records: list[Record]) -> None:
        if not records:
            return
        if self.file is None:
            self.guarded = DeferredErrorFile(self.temporary)
            self.file = h5py.File(self.guarded, "w")
            self.columns = self._create(self.file, records[0])
        table, start = self.columns, self.count
        stop = start + len(records)
        for name, column in table.items():
            if not name.startswith(GROUP + "/") and not depends_on_size(name):
                column.resize(stop, axis=0)
        rows = slice(start, stop)
        table["image_name"][rows] = [record.name for record in records]
        table["split"][rows] = [record.split for record in records]
        table["source_path"][rows] = [record.source_path for record in records]
        table["source_sha256"][rows] = [record.source_sha256 for record in records]
        table["conversions"][rows] = ["; ".join(record.conversions) for record in records]
        table["caption"][rows] = [record.caption for record in records]
        table["original_size"][rows] = np.array([record.original_size for record in records], np.int32)
        for view, outcomes in outcomes_by_view(records):
            _write_outcomes(table, rows, outcomes, view.suffix)
        for shape, group in groupby(records, lambda record: record.initial_latents.shape):
            some = list(group)
            self._write_samples(shape, some, start)
            start += len(some)
        self.count = stop
        self.guarded.check()

    def _write_samples(self, shape: tuple[int, ...], records: list[Record], start: int) -> None:
        """Write latents and pictures, all of one shape, whose rows of the table begin at `start`."""
        group, rows, table = "", slice(start, start + len(records)), self.columns
        if self.by_size:
            size = target_size(shape, self.header.vae)
            group = f"{group_name(size)}/"
            if group not in self.sized:
                self._create_samples(group, records[0])
            first = self.sized[group]
            table["size"][rows] = size
            table["size_row"][rows] = np.arange(first, first + len(records))
            rows = slice(first, first + len(records))
            self.sized[group] = rows.stop
        for name, column in table.items():
            if name.startswith(group) and depends_on_size(name.removeprefix(group)):
                column.resize(rows.stop, axis=0)
        for view, outcomes in outcomes_by_view(records):
            for key in LATENTS:
                table[f"{group}{key}{view.suffix}"][rows] = np.stack([getattr(outcome, key) for outcome in outcomes])
        for key in LATENTS:
            self.moments.add(key, np.stack([getattr(record, key) for record in records]))
        if (masks := table.get(f"{group}{MASK}")) is not None:
            whole = np.full(masks.shape[1:], WHOLE_MASK, np.uint8)
            masks[rows] = np.stack([whole if record.mask is None else record.mask for record in records])
        for name in IMAGES:
            if f"{group}images/{name}" in table:
                table[f"{group}images/{name}"][rows] = np.stack([record.images[name] for record in records])

    def close(self) -> None:
        if self.file is None:
            raise UsageError("nothing to write: the run has no finished picture")
        self.moments.write(self.file)
        for key, value in self.attributes.items():
            self.file.attrs[key] = json.dumps(value)
        self.abort()
        self.guarded.check()
        with open_file(self.temporary) as written:
            latents = sum(len(written[f"{group}optimized_latents"]) for group in size_groups(written))
            if len(written["image_name"]) != self.count or latents != self.count:
                raise DatasetError(f"{self.destination.name}: wrote {self.count} samples, found fewer")

    def abort(self) -> None:
        if self.file is not None:
            self.columns.clear()
            self.file.close()
            self.guarded.close()
            self.file = None

    def _create(self, file: h5py.File, first: Record) -> dict[str, h5py.Dataset]:
        """Create the columns for records like `first`, and return them by name.

        They are kept, since looking up a column by name takes as long as writing to it.
        """
        write_header(file, self.header)
        self.moments = ChannelMoments()
        self.sized: dict[str, int] = {}  # number of samples by group, where there are several sizes
        found: dict[str, h5py.Dataset] = {}

        def add(name: str, *facts: Any) -> None:
            found[name] = growing(file, name, *facts)

        text = h5py.string_dtype("utf-8")
        for name in TEXT_COLUMNS:
            add(name, (), text, 256)
        add("original_size", (2,), np.int32, 256)
        for suffix in (view.suffix for view, _ in first.all_views()):
            add(f"stop_reason{suffix}", (), text, 256)
            add(f"iterations{suffix}", (), np.int32, 256)
            add(f"convergence_iteration{suffix}", (), np.int32, 256)
            add(f"losses{suffix}", (int(self.header.config["iterations"]),), np.float32, 16)
            for name in METRICS:
                add(f"metrics{suffix}/{name}", (), np.float32, 256)
        self.columns = found
        if self.by_size:
            add("size", (2,), np.int32, 256)
            add("size_row", (), np.int32, 256)
        else:
            self._create_samples("", first)
        return found

    def _create_samples(self, group: str, first: Record) -> None:
        """Create the columns of a group, the root's for "", for latents and pictures like those of `first`."""
        assert self.file is not None
        for suffix in (view.suffix for view, _ in first.all_views()):
            for name in LATENTS:
                column = f"{group}{name}{suffix}"
                self.columns[column] = growing(self.file, column, first.initial_latents.shape, np.float32, 1)
        if first.mask is not None:
            column = f"{group}{MASK}"
            packing = {"compression": "gzip", "compression_opts": 1}  # mostly of a few values
            self.columns[column] = growing(self.file, column, first.mask.shape, np.uint8, 1, **packing)
        for name, picture in first.images.items():
            column = f"{group}images/{name}"
            self.columns[column] = growing(self.file, column, picture.shape, np.uint8, 1)
        self.sized[group] = 0


class ShardExporter(HDF5Exporter):
    """Writer of a shard of a run, whose samples have one size."""

    by_size = False


def _write_outcomes(table: dict[str, h5py.Dataset], rows: slice, outcomes: Sequence[Outcome], suffix: str) -> None:
    """Write the outcomes of one view into its columns, whose names end in `suffix`; losses are padded with NaN."""
    table[f"stop_reason{suffix}"][rows] = [outcome.stop_reason for outcome in outcomes]
    table[f"iterations{suffix}"][rows] = [len(outcome.losses) for outcome in outcomes]
    table[f"convergence_iteration{suffix}"][rows] = [
        -1 if outcome.convergence_iteration is None else outcome.convergence_iteration for outcome in outcomes
    ]
    losses = np.full((len(outcomes), table["losses"].shape[1]), np.nan, np.float32)
    for row, outcome in zip(losses, outcomes, strict=True):
        row[: len(outcome.losses)] = outcome.losses
    table[f"losses{suffix}"][rows] = losses
    for name in METRICS:
        table[f"metrics{suffix}/{name}"][rows] = [outcome.metrics[name] for outcome in outcomes]
