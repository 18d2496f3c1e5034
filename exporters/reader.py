"""Datasets for training: `.h5` and `.pt` files as a PyTorch Dataset."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..engine.errors import DatasetError, first_line
from ..engine.inputs.sizes import Size
from ..engine.losses.metrics import from_uint8
from .base.exporter import SCHEMA
from .base.stored_views import stored_views
from .batch_sampler import SizeBatchSampler
from .files.pt_file import read_pt
from .hdf5.by_size import SizeTable, latent_sizes, picture_names
from .hdf5.check_columns import REMEDY, check_columns
from .hdf5.columns import OpenColumns
from .hdf5.reading import open_file
from .hdf5.shard_reader import ShardReader, is_virtual

# what h5py raises for a file in which something is damaged, missing, or of another kind; an IndexError would end a loop
UNREADABLE = (OSError, KeyError, IndexError, ValueError, TypeError, AttributeError, RuntimeError)
SUFFIXES = (".h5", ".hdf5", ".pt", ".pth")


def load_optimized_dataset(path: str | Path) -> "OptimizedLatentDataset":
    """Open `dataset.h5`, which may be a virtual dataset over shards beside it, or `dataset.pt`.

    Raises `DatasetError` for a missing, damaged, foreign or hostile file, and for a virtual one without its shards.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; expected a dataset ending in {', '.join(SUFFIXES)}")
    if path.suffix in (".h5", ".hdf5"):
        return _HDF5Dataset(path)
    if path.suffix in (".pt", ".pth"):
        return _PTDataset(path)
    raise DatasetError(f"{path}: unknown ending {path.suffix!r}; expected one of {', '.join(SUFFIXES)}")


class OptimizedLatentDataset(Dataset[dict[str, Any]]):
    """Map-style PyTorch Dataset of optimised latents.

    A sample is a dictionary with `image_name`, `initial_latents` and `optimized_latents` ((C, h, w) fp32, unscaled),
    `metrics` (dict of floats) and, if they were stored, `original_image` ((3, H, W) fp32 in [-1, 1]) and the mirrored
    picture's own `initial_latents_flipped`, `optimized_latents_flipped` and `metrics_flipped`.
    """

    def __len__(self) -> int:
        """Return the number of samples."""
        raise NotImplementedError

    def get_metadata(self) -> dict[str, Any]:
        """Return the metadata of the dataset.

        Keys: `schema`, `total_samples`, `creation_timestamp`, `relatent_version`, `vae`, `optimization_config`,
        `latents_scaled`, `scaling_factor`, `shift_factor`, `value_range`; of an .h5 file also `latents_mean` and `latents_std` by
        channel, of a .pt file `processing_statistics`.
        """
        raise NotImplementedError

    def create_dataloader(
        self, batch_size: int = 4, shuffle: bool = True, **options: Any
    ) -> "DataLoader[dict[str, Any]]":
        """Return a DataLoader over the samples.

        A batch holds names as a list, stacked latents and images, and metrics as a dictionary of (B,) tensors. Where the
        samples have several sizes, those of a batch have one: see `SizeBatchSampler`.
        options: passed to torch's DataLoader; with `num_workers`, each worker opens the file for itself.
        """
        sizes = self.sizes()
        if len(set(sizes)) < 2 or {"sampler", "batch_sampler"} & options.keys():
            return DataLoader(self, batch_size=batch_size, shuffle=shuffle, **options)
        drop_last, generator = options.pop("drop_last", False), options.get("generator")
        batches = SizeBatchSampler(sizes, batch_size, shuffle, drop_last, generator)
        return DataLoader(self, batch_sampler=batches, **options)

    def sizes(self) -> list[Size]:
        """Return the (width, height) of each sample's latents, in latent cells."""
        raise NotImplementedError


class _HDF5Dataset(OptimizedLatentDataset):
    """Dataset of an HDF5 file, read sample by sample."""

    def __init__(self, path: Path):
        self.path = path
        self._file: OpenColumns | None = None
        self._metrics: dict[str, dict[str, np.ndarray]] = {}
        self._shards: ShardReader | None = None
        with open_file(path) as file:
            try:
                self._open(file)
            except UNREADABLE as error:
                raise DatasetError(
                    f"{path} is damaged or no dataset of schema {SCHEMA}: {first_line(error)}; {REMEDY}"
                ) from error

    def _open(self, file: h5py.File) -> None:
        """Read what is kept of all samples. Raises what h5py raises where something is missing."""
        check_columns(self.path, file)
        if is_virtual(file):
            self._shards = ShardReader(self.path, file)
            self._shards.check()
        self._stored = "original" in picture_names(file)
        self._suffixes = [view.suffix for view in stored_views(file, "stop_reason")]
        self._table = SizeTable(file)
        self._count = len(file["image_name"])
        self._sizes = latent_sizes(file, self._table)
        self._names = list(file["image_name"].asstr()[:])
        self._metadata = {
            "schema": SCHEMA,
            "total_samples": self._count,
            "creation_timestamp": file.attrs["created"],
            "relatent_version": file.attrs["relatent_version"],
            "vae": _table(file, "vae"),
            "optimization_config": _table(file, "config"),
            "latents_scaled": bool(file.attrs["latents_scaled"]),
            "scaling_factor": float(file.attrs["scaling_factor"]),
            "shift_factor": float(file.attrs["shift_factor"]),
            "value_range": file.attrs["value_range"],
            "latents_mean": file.attrs["latents_mean"].tolist(),
            "latents_std": file.attrs["latents_std"].tolist(),
        }

    def __getstate__(self) -> dict[str, Any]:
        # an open HDF5 file is not pickled for DataLoader workers: each opens the file on its first read
        return self.__dict__ | {"_file": None, "_metrics": {}}

    def __len__(self) -> int:
        return self._count

    def get_metadata(self) -> dict[str, Any]:
        return self._metadata

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -self._count <= index < self._count:
            raise IndexError(f"sample {index} of {self._count}")
        index %= self._count
        try:
            return self._sample(index)
        except UNREADABLE as error:
            name, reason = self._names[index], first_line(error)
            raise DatasetError(f"{self.path}: sample {index} ({name}) is damaged: {reason}; {REMEDY}") from error

    def sizes(self) -> list[Size]:
        return self._sizes

    def _sample(self, index: int) -> dict[str, Any]:
        """Read one sample. Raises `OSError` if a checksum fails, and others of `UNREADABLE` where something is missing."""
        sample: dict[str, Any] = {"image_name": self._names[index]}
        for suffix in self._suffixes:
            for name in (f"initial_latents{suffix}", f"optimized_latents{suffix}"):
                sample[name] = torch.from_numpy(self._row(name, index)).float()
            metrics = self._metric_columns(f"metrics{suffix}").items()
            sample[f"metrics{suffix}"] = {name: float(values[index]) for name, values in metrics}
        if self._stored:
            image = torch.from_numpy(self._row("images/original", index))
            sample["original_image"] = from_uint8(image).permute(2, 0, 1)
        return sample

    def _row(self, name: str, index: int) -> np.ndarray:
        """Return sample `index` of a column, from the shards if the dataset is virtual."""
        if self._shards is not None:
            return self._shards.row(name, index)
        return self._opened().row(*self._table.place(name, index))

    def _metric_columns(self, group: str) -> dict[str, np.ndarray]:
        """Return the metrics of all samples, cached in memory.

        They take 44 bytes per sample; read one by one they would take longer than all the rest of the sample.
        """
        if group not in self._metrics:
            self._metrics[group] = {name: values[:] for name, values in self._opened().file[group].items()}
        return self._metrics[group]

    def _opened(self) -> OpenColumns:
        """Return the open file, opening it on first use."""
        if self._file is None:
            self._file = OpenColumns(open_file(self.path))
        return self._file


def _table(file: h5py.File, name: str) -> dict[str, Any]:
    """Return the attribute `name`, a JSON object. Raises `ValueError` for another, and `KeyError` if there is none."""
    try:
        found = json.loads(file.attrs[name])
    except (ValueError, TypeError) as error:
        raise ValueError(f"its attribute {name} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"its attribute {name} is no JSON object, but a {type(found).__name__}")
    return found


class _PTDataset(OptimizedLatentDataset):
    """Dataset of a `.pt` file, held in memory."""

    def __init__(self, path: Path):
        self._content = read_pt(path)

    def __len__(self) -> int:
        return len(self._content["image_name"])

    def get_metadata(self) -> dict[str, Any]:
        return self._content["metadata"]

    def sizes(self) -> list[Size]:
        return [(latents.shape[-1], latents.shape[-2]) for latents in self._content["optimized_latents"]]

    def __getitem__(self, index: int) -> dict[str, Any]:
        content = self._content
        sample: dict[str, Any] = {"image_name": content["image_name"][index]}
        for suffix in (view.suffix for view in stored_views(content)):
            for name in (f"initial_latents{suffix}", f"optimized_latents{suffix}"):
                sample[name] = content[name][index]
            metrics = content[f"metrics{suffix}"].items()
            sample[f"metrics{suffix}"] = {name: values[index].item() for name, values in metrics}
        if "original_images" in content:
            sample["original_image"] = from_uint8(content["original_images"][index]).permute(2, 0, 1)
        return sample
