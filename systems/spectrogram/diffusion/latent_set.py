"""The latents that a diffusion model is trained on, with their users and recordings."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from ....engine.errors import DatasetError, UsageError
from ..data.spectrogram import Spectrogram
from ..data.split import split_by_recording

COLUMNS = ("initial_latents", "optimized_latents")
_USER = re.compile(r"ID_([1-9][0-9]{0,5})")
_WINDOW = re.compile(r"(.+)_[0-9]+")  # {recording}_{index}


@dataclass(frozen=True)
class LatentSet:
    """latents: (N, C, h, w) fp32, unscaled. users: (N,) int64, from 0 on. recordings: N names, each of its user's own.

    Raises `UsageError` for other shapes or types and for values that are not finite.
    """

    latents: Tensor
    users: Tensor
    recordings: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.latents)
        if self.latents.ndim != 4 or not count or self.latents.dtype != torch.float32:
            raise UsageError(f"latents: expected (N, C, h, w) in fp32, found {_kind(self.latents)}")
        if self.users.shape != (count,) or self.users.dtype != torch.int64 or len(self.recordings) != count:
            raise UsageError(
                f"expected {count} users in int64 and as many recordings, found {_kind(self.users)} and {len(self.recordings)}"
            )
        if not self.latents.isfinite().all():
            raise UsageError("latents: expected finite values, found NaN or infinity; encode the pictures again")
        if int(self.users.min()) < 0:
            raise UsageError(f"users: expected numbers from 0 on, found {int(self.users.min())}")

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one latent."""
        channels, height, width = self.latents.shape[1:]
        return channels, height, width

    def select(self, indices: Tensor) -> "LatentSet":
        """The latents of these indices, (K,) int64."""
        return LatentSet(
            self.latents[indices], self.users[indices], tuple(self.recordings[i] for i in indices.tolist())
        )

    def split(self, held_out: float = 0.2, seed: int = 0) -> tuple["LatentSet", "LatentSet"]:
        """Training and validation part, as `split_by_recording` does it: every user is in both, no recording is.

        A split by user would leave some users' embeddings untrained. Raises `SpectrogramError` where it is impossible.
        """
        pairs = zip(self.users.tolist(), self.recordings, strict=True)
        # the number of a latent stands for the path that a spectrogram has
        rows = [Spectrogram(Path(str(index)), user, name, 0.0) for index, (user, name) in enumerate(pairs)]
        parts = split_by_recording(rows, held_out, seed)
        first, second = (self.select(torch.tensor([int(row.path.name) for row in part])) for part in parts)
        return first, second

    def digest(self) -> str:
        """SHA-256 of latents and users, hexadecimal: a checkpoint goes on with the same ones only."""
        found = hashlib.sha256(self.latents.contiguous().numpy().tobytes())
        found.update(self.users.numpy().tobytes())
        return found.hexdigest()

    @classmethod
    def from_dataset(cls, path: str | Path, column: str = "optimized_latents") -> "LatentSet":
        """The latents of a `dataset.h5` that `relatent optimize` wrote.

        column: initial_latents or optimized_latents. The user is the n − 1 of a picture's folder `ID_{n}`, the recording what
        precedes the last `_{number}` of its name. Where any folder has another name, the number of a picture's class stands
        for the user, and each picture is a recording of its own where its name has no number. Raises `DatasetError` for a file
        that is damaged or has latents of several sizes, `UsageError` for an unknown column.
        """
        from ....exporters.base.labels import class_name
        from ....exporters.hdf5.reading import open_file
        from ....exporters.reader import load_optimized_dataset

        if column not in COLUMNS:
            raise UsageError(f"column: expected one of {', '.join(COLUMNS)}, found {column!r}")
        path = Path(path)
        if path.suffix not in (".h5", ".hdf5"):
            raise DatasetError(f"{path}: expected a dataset.h5; `relatent export OUT --to hdf5` makes one of a run")
        dataset = load_optimized_dataset(path)
        if len(set(dataset.sizes())) != 1:
            raise DatasetError(f"{path} has latents of {len(set(dataset.sizes()))} sizes, expected one size")
        with open_file(path) as file:
            sources, splits = file["source_path"].asstr()[:], file["split"].asstr()[:]
        classes = [class_name(source, split) for source, split in zip(sources, splits, strict=True)]
        numbers = [_USER.fullmatch(name) for name in classes]
        order = sorted(set(classes))
        users = [
            int(found[1]) - 1 if found and all(numbers) else order.index(name)
            for found, name in zip(numbers, classes, strict=True)
        ]
        stems = [PurePosixPath(source).stem for source in sources]
        recordings = tuple(found[1] if (found := _WINDOW.fullmatch(stem)) else stem for stem in stems)
        latents = torch.stack([dataset[index][column] for index in range(len(dataset))])
        return cls(latents, torch.tensor(users), recordings)


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} in {str(tensor.dtype).removeprefix('torch.')}"
