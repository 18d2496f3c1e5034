"""Reading maps, from the folder of a run or from a file."""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from ....engine.errors import DatasetError
from ....exporters.files.open_files import allow_open_files
from ....exporters.hdf5.reading import open_file
from ....factory.state.ledger import Ledger
from ..data.volume_reader import MAX_SIDE
from .header import SCHEMA, MapHeader
from .map_file import LARGE, TEXT
from .map_row import MapRow
from .run_record import LEDGER, SHARDS, read_record, shard_count
from .virtual_file import mapped_shards

REMEDY = "the same `relatent anomaly map` again makes it anew"


class MapReader:
    """The maps in a run's folder, or in its `maps.h5`, in the order of their volumes' names. A context manager.

    `len()` is N. `names`, `patients` and `sources` are lists of N texts; `labels`, (N,) int8: 0 normal, 1 abnormal, -1 not known;
    `scores`, by name, (N,) float64. Arrays of one volume are read when they are asked for, and their checksums verified; files
    that stay open are not pickled. Raises `DatasetError` for files that are missing, damaged or of another kind, and for a run
    that is not done.
    """

    def __init__(self, path: str | Path) -> None:
        """path: the folder of a run, its maps.h5, or one shard."""
        self.path = Path(path)
        self._open: dict[int, h5py.File] = {}
        expected = None
        if self.path.is_dir():
            self._files = self._run_files()
        else:
            with _damage(self.path), open_file(self.path, SCHEMA) as file:
                virtual = file["error"].is_virtual
                self._files = mapped_shards(self.path, file) if virtual else [self.path]
                expected = list(file["volume_name"].asstr()[:])
        self._starts: list[int] = []
        columns: dict[str, list[Any]] = {}
        rows = 0
        for file_path in self._files:
            self._starts.append(rows)
            with _damage(file_path), open_file(file_path, SCHEMA) as file:
                rows += self._take(file, columns)
        text: dict[str, list[str]] = {name: [one for part in columns[name] for one in part] for name in TEXT}
        self.names, self.patients, self.sources = text["volume_name"], text["patient"], text["source"]
        self.source_sha256 = text["source_sha256"]
        self.labels: np.ndarray = np.concatenate(columns["label"])
        self.scores: dict[str, np.ndarray] = {
            name.removeprefix("scores/"): np.concatenate(parts)
            for name, parts in columns.items()
            if name.startswith("scores/")
        }
        self._has_mask = np.concatenate(columns["has_mask"]) if self.header.masks else np.zeros(len(self), bool)
        if sorted(set(self.names)) != self.names or (expected is not None and self.names != expected):
            raise DatasetError(f"{self.path} is out of date: its shards hold other volumes; {REMEDY}")

    @property
    def identity(self) -> dict[str, Any]:
        """What made the maps, as its `Mapper.identity` says."""
        return self.header.identity

    @property
    def method(self) -> str:
        """The method that made the maps, such as "error"."""
        return self.header.method

    @property
    def synthetic(self) -> bool | None:
        """Whether the volumes are synthetic; None where it is not known."""
        return self.header.synthetic

    def __len__(self) -> int:
        return len(self.names)

    def error(self, index: int) -> np.ndarray:
        """The map of one volume, (D, H, W) float32 from 0 on."""
        return self._read("error", index)

    def volume(self, index: int) -> np.ndarray:
        """The volume, (D, H, W) float32 in [0, 1]. Raises `DatasetError` where volumes were not kept."""
        return self._read("volume", index)

    def reconstruction(self, index: int) -> np.ndarray:
        """The volume as the model explains it, (D, H, W) float32 in [0, 1]. Raises `DatasetError` where it was not kept."""
        return self._read("reconstruction", index)

    def mask(self, index: int) -> np.ndarray | None:
        """The anomaly's voxels, (D, H, W) booleans; None where they are not known."""
        return self._read("mask", index) if self._has_mask[index] else None

    def row(self, index: int) -> MapRow:
        """All that the files have of one volume."""
        kept = self.header.keep_volumes
        return MapRow(
            self.names[index],
            self.patients[index],
            self.sources[index],
            self.source_sha256[index],
            int(self.labels[index]),
            {name: float(values[index]) for name, values in self.scores.items()},
            self.error(index),
            self.volume(index) if kept else None,
            self.reconstruction(index) if kept else None,
            self.mask(index),
        )

    def close(self) -> None:
        """Close the files that are open; reading opens them again."""
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def _run_files(self) -> list[Path]:
        """The shards of the run, all there and of the size that the ledger has."""
        record, shards = read_record(self.path), Ledger(self.path / LEDGER).shards()
        if len(shards) < shard_count(record):
            of = f"{len(shards)} of {shard_count(record)} shards"
            raise DatasetError(f"{self.path} has {of}: the run is not done; the same `relatent anomaly map` goes on")
        files = []
        for shard in shards.values():
            if shard.file is not None:
                path = self.path / SHARDS / shard.file
                if not path.is_file() or path.stat().st_size != shard.bytes:
                    raise DatasetError(f"{path} is missing or not as it was written; {REMEDY}")
                files.append(path)
        if not files:
            raise DatasetError(f"{self.path} has no maps: every volume failed; run.json says why")
        return files

    def _take(self, file: h5py.File, columns: dict[str, list[Any]]) -> int:
        """Add the small columns of a file, the first or one that fits those before it, and return its number of rows."""
        header, (count, *shape) = MapHeader.read(file), file["error"].shape
        small = {**{name: file[name].asstr()[:] for name in TEXT}, "label": file["label"][:]}
        small |= {f"scores/{name}": file["scores"][name][:] for name in file["scores"]}
        small |= {"has_mask": file["has_mask"][:]} if header.masks else {}
        if not columns:
            self.header, self.side = header, shape[0]
        elif header != self.header or small.keys() != columns.keys():
            raise ValueError("it was made by another run than the shards before it")
        lengths = {len(values) for values in small.values()} | {len(file[name]) for name in LARGE if name in file}
        if lengths != {count} or shape != [self.side] * 3 or self.side > MAX_SIDE:
            raise ValueError("its columns have other shapes than those of maps")
        for name, values in small.items():
            columns.setdefault(name, []).append(values)
        return count

    def _read(self, name: str, index: int) -> np.ndarray:
        if not -len(self) <= index < len(self):
            raise IndexError(f"volume {index} of {len(self)}")
        index %= len(self)
        number = bisect_right(self._starts, index) - 1
        path = self._files[number]
        with _damage(path):
            file = self._open.get(number)
            if file is None:
                if len(self._open) >= allow_open_files(len(self._files)):
                    self._open.pop(next(iter(self._open))).close()
                file = self._open[number] = open_file(path, SCHEMA)
            if name not in file:
                raise DatasetError(f"{path} has no {name}: the run was made without it")
            values: np.ndarray = file[name][index - self._starts[number]]
        return values if name == "mask" else values.astype(np.float32, copy=False)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Raise `DatasetError` for what reading a damaged file raises."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DatasetError(f"{path} is damaged: {reason}; {REMEDY}") from error
