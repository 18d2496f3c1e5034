"""The root attributes of every HDF5 file written by relatent (docs/files.md)."""

import json

import h5py
import numpy as np

from ..base.exporter import SCHEMA
from ..base.header import Header

PREFIXES = {"optimized_latents": "latents", "initial_latents": "initial_latents"}  # column -> prefix of its attributes


def write_header(file: h5py.File, header: Header) -> None:
    """Write the root attributes that are known before the first record."""
    file.attrs["schema"] = SCHEMA
    file.attrs["created"] = header.created
    file.attrs["relatent_version"] = header.relatent_version
    file.attrs["vae"] = json.dumps(header.vae)
    file.attrs["config"] = json.dumps(header.config)
    file.attrs["latents_scaled"] = False
    file.attrs["scaling_factor"] = header.vae["scaling_factor"]
    file.attrs["shift_factor"] = header.vae["shift_factor"]
    file.attrs["value_range"] = "[-1, 1]"


class ChannelMoments:
    """Mean and standard deviation per channel, for initial and optimised latents, accumulated in fp64."""

    def __init__(self) -> None:
        self._sums = {column: (np.zeros(1), np.zeros(1), 0) for column in PREFIXES}

    def add(self, column: str, latents: np.ndarray) -> None:
        """Accumulate latents (B, C, *spatial) of the column `initial_latents` or `optimized_latents`."""
        total, squares, count = self._sums[column]
        wide = latents.astype(np.float64)
        axes = (0, *range(2, latents.ndim))
        self._sums[column] = (
            total + wide.sum(axes),
            squares + (wide**2).sum(axes),
            count + wide.size // wide.shape[1],
        )

    def write(self, file: h5py.File) -> None:
        """Write mean and standard deviation as root attributes, (C,) fp32."""
        for column, (total, squares, count) in self._sums.items():
            mean = total / count
            file.attrs[f"{PREFIXES[column]}_mean"] = mean.astype(np.float32)
            file.attrs[f"{PREFIXES[column]}_std"] = np.sqrt(np.maximum(squares / count - mean**2, 0)).astype(np.float32)
