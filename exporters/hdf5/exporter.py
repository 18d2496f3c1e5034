"""HDF5: the run's own shards and `dataset.h5`, one schema for both (docs/files.md)."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...engine.errors import DatasetError, UsageError
from ...engine.records import IMAGES, METRICS, Outcome, Record, outcomes_by_view
from ..base.exporter import SCHEMA, Exporter
from ..base.stored_views import stored_views
from .attributes import ChannelMoments, write_header
from .deferred_errors import DeferredErrorFile

TEXT_COLUMNS = ("image_name", "split", "source_path", "source_sha256", "conversions")


class HDF5Exporter(Exporter):
    """One sample per chunk, so that a random read costs one chunk; fletcher32 finds a flipped bit."""

    streams = False  # dataset.h5 points to the shards, all of them

    def open(self) -> None:
        self.file: h5py.File | None = None
        self.count = 0
        self.attributes: dict[str, Any] = {}  # more of them, as JSON

    def write(self, records: list[Record]) -> None:
        if not records:
            return
        if self.file is None:
            self.guarded = DeferredErrorFile(self.temporary)
            self.file = h5py.File(self.guarded, "w")
            self.columns = self._create(self.file, records[0])
        table, start = self.columns, self.count
        stop = start + len(records)
        for column in table.values():
            column.resize(stop, axis=0)
        rows = slice(start, stop)
        table["image_name"][rows] = [record.name for record in records]
        table["split"][rows] = [record.split for record in records]
        table["source_path"][rows] = [record.source_path for record in records]
        table["source_sha256"][rows] = [record.source_sha256 for record in records]
        table["conversions"][rows] = ["; ".join(record.conversions) for record in records]
        table["original_size"][rows] = np.array([record.original_size for record in records], np.int32)
        for view, outcomes in outcomes_by_view(records):
            _write_outcomes(table, rows, outcomes, view.suffix)
        for key in ("initial_latents", "optimized_latents"):
            self.moments.add(key, np.stack([getattr(record, key) for record in records]))
        for name in IMAGES:
            if f"images/{name}" in table:
                table[f"images/{name}"][rows] = np.stack([record.images[name] for record in records])
        self.count = stop
        self.guarded.check()

    def close(self) -> None:
        if self.file is None:
            raise UsageError("nothing to write: the run has no finished picture")
        self.moments.write(self.file)
        for key, value in self.attributes.items():
            self.file.attrs[key] = json.dumps(value)
        self.abort()
        self.guarded.check()
        with open_file(self.temporary) as written:
            if len(written["image_name"]) != self.count or len(written["optimized_latents"]) != self.count:
                raise DatasetError(f"{self.destination.name}: wrote {self.count} samples, found fewer")

    def abort(self) -> None:
        if self.file is not None:
            self.columns.clear()
            self.file.close()
            self.guarded.close()
            self.file = None

    def _create(self, file: h5py.File, first: Record) -> dict[str, h5py.Dataset]:
        """Its columns by name: to look one up takes as long as to write it."""
        write_header(file, self.header)
        self.moments = ChannelMoments()
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
            for name in ("initial_latents", "optimized_latents"):
                add(f"{name}{suffix}", first.initial_latents.shape, np.float32, 1)
            add(f"losses{suffix}", (int(self.header.config["iterations"]),), np.float32, 16)
            for name in METRICS:
                add(f"metrics{suffix}/{name}", (), np.float32, 256)
        for name, picture in first.images.items():
            add(f"images/{name}", picture.shape, np.uint8, 1)
        return found


def _write_outcomes(table: dict[str, h5py.Dataset], rows: slice, outcomes: Sequence[Outcome], suffix: str) -> None:
    table[f"stop_reason{suffix}"][rows] = [outcome.stop_reason for outcome in outcomes]
    table[f"iterations{suffix}"][rows] = [len(outcome.losses) for outcome in outcomes]
    table[f"convergence_iteration{suffix}"][rows] = [
        -1 if outcome.convergence_iteration is None else outcome.convergence_iteration for outcome in outcomes
    ]
    for key in ("initial_latents", "optimized_latents"):
        table[f"{key}{suffix}"][rows] = np.stack([getattr(outcome, key) for outcome in outcomes])
    losses = np.full((len(outcomes), table["losses"].shape[1]), np.nan, np.float32)
    for row, outcome in zip(losses, outcomes, strict=True):
        row[: len(outcome.losses)] = outcome.losses
    table[f"losses{suffix}"][rows] = losses
    for name in METRICS:
        table[f"metrics{suffix}/{name}"][rows] = [outcome.metrics[name] for outcome in outcomes]


def growing(file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any, rows_per_chunk: int) -> h5py.Dataset:
    """An empty column of samples of that shape, with checksums where HDF5 has them."""
    checksum = dtype != h5py.string_dtype("utf-8")  # HDF5 has no checksums for variable-length text
    return file.create_dataset(
        name,
        (0, *shape),
        dtype,
        maxshape=(None, *shape),
        chunks=(rows_per_chunk, *shape),
        fletcher32=checksum,
    )


def columns(file: h5py.File) -> list[h5py.Dataset]:
    """All of a file, in groups too."""
    found: list[h5py.Dataset] = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found


class OpenColumns:
    """An open file's datasets by name, kept: to look one up by name takes as long as to read a sample of it."""

    def __init__(self, file: h5py.File):
        self.file = file
        self._found: dict[str, h5py.Dataset] = {}

    def row(self, name: str, index: int) -> np.ndarray:
        """Raises `OSError` where its checksum fails."""
        column = self._found.get(name)
        if column is None:
            column = self._found[name] = self.file[name]
        found: np.ndarray = column[index]
        return found


def open_file(path: Path) -> h5py.File:
    """A dataset of this schema, for reading. Raises `DatasetError` for anything else."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path} cannot be opened as HDF5: {error}") from error
    if file.attrs.get("schema") != SCHEMA:
        found = file.attrs.get("schema")
        file.close()
        raise DatasetError(f"{path} is no dataset of schema {SCHEMA}: found {found!r}")
    return file


def read_records(path: Path, batch_size: int = 32) -> Iterator[list[Record]]:
    """All records of a file, in batches. Raises `DatasetError` where a checksum fails."""
    with open_file(path) as file:
        for start in range(0, len(file["image_name"]), batch_size):
            try:
                yield read_rows(file, slice(start, start + batch_size))
            except OSError as error:
                raise DatasetError(f"{path} is damaged: {error}") from error


def read_rows(file: h5py.File, rows: slice) -> list[Record]:
    """Some records of an open file. Raises `OSError` where a checksum fails."""
    text = {name: file[name].asstr()[rows] for name in TEXT_COLUMNS}
    sizes, outcomes = file["original_size"][rows], _read_outcomes(file, rows)
    others = {view.name: _read_outcomes(file, rows, view.suffix) for view in stored_views(file)[1:]}
    images = {name: file[f"images/{name}"][rows] for name in file.get("images", ())}
    return [
        Record(
            **vars(outcomes[i]),
            name=text["image_name"][i],
            split=text["split"][i],
            source_path=text["source_path"][i],
            source_sha256=text["source_sha256"][i],
            original_size=(int(sizes[i, 0]), int(sizes[i, 1])),
            conversions=tuple(text["conversions"][i].split("; ")) if text["conversions"][i] else (),
            images={name: values[i] for name, values in images.items()},
            views={name: found[i] for name, found in others.items()},
        )
        for i in range(len(outcomes))
    ]


def _read_outcomes(file: h5py.File, rows: slice, suffix: str = "") -> list[Outcome]:
    initial, optimized, losses, counts, stops = (
        file[f"{name}{suffix}"][rows]
        for name in ("initial_latents", "optimized_latents", "losses", "iterations", "convergence_iteration")
    )
    reasons = file[f"stop_reason{suffix}"].asstr()[rows]
    metrics = {name: file[f"metrics{suffix}/{name}"][rows] for name in METRICS}  # in their order, not the file's
    return [
        Outcome(
            initial_latents=initial[i],
            optimized_latents=optimized[i],
            losses=[float(value) for value in losses[i, : counts[i]]],
            convergence_iteration=int(stops[i]) if stops[i] >= 0 else None,
            stop_reason=reasons[i],
            metrics={name: float(values[i]) for name, values in metrics.items()},
        )
        for i in range(len(counts))
    ]
