"""The pictures of a folder in memory, with what tells them apart: user, recording, name, SHA-256 of the pixels."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ....engine.errors import ImageError
from ....engine.inputs.images import load_image
from ..data.errors import SpectrogramError
from ..data.spectrogram import Spectrogram
from ..data.spectrogram_folder import SUFFIXES, read_index

_FOLDER = re.compile(r"ID_([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class PictureSet:
    """N pictures of one size.

    images: (N, 3, R, R) uint8. users: (N,) int64, from 0 on. recordings: "" where a picture is of none, as generated ones are. names: such as
    ID_1/a_0000.png. digests: SHA-256 of the decoded pixels at the file's own size, so that a copy saved anew has the same.
    """

    images: Tensor
    users: Tensor
    recordings: tuple[str, ...]
    names: tuple[str, ...]
    digests: tuple[str, ...]
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.names)

    def pick(self, chosen: np.ndarray | Tensor | Sequence[int]) -> "PictureSet":
        """Those of the indices, or where a mask is true."""
        index = torch.as_tensor(chosen)
        if index.dtype == torch.bool:
            index = index.nonzero()[:, 0]
        numbers = index.tolist()
        texts = (self.recordings, self.names, self.digests)
        recordings, names, digests = (tuple(values[i] for i in numbers) for values in texts)
        return PictureSet(
            self.images[index],
            self.users[index],
            recordings,
            names,
            digests,
            tuple(self.paths[i] for i in numbers),
        )

    def of_user(self, user: int) -> "PictureSet":
        return self.pick(self.users == user)

    def grey(self) -> np.ndarray:
        """The mean over the channels, (N, R, R) fp32 in [0, 1]."""
        return np.asarray(self.images.float().mean(1) / 255.0)


def read_generated(folder: Path) -> list[Spectrogram]:
    """The pictures in the folders ID_{n} of generated ones, of any users, by name.

    Their recording is "", unless a `spectrograms.json` names it, as in a folder of recorded pictures. Raises `SpectrogramError` where there is none.
    """
    known = (read_index(folder) or {}).get("spectrograms", {})
    items = []
    for place in sorted(folder.glob("ID_*"), key=lambda path: (len(path.name), path.name)):
        if (match := _FOLDER.fullmatch(place.name)) is None:
            continue
        for path in sorted(place.iterdir()):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                recording = known.get(f"{place.name}/{path.name}", {}).get("recording", "")
                items.append(Spectrogram(path, int(match[1]) - 1, recording, 0.0))
    if not items:
        raise SpectrogramError(f"{folder} holds no generated pictures: expected ID_1/*.png, ID_2/*.png and so on")
    return items


def load_pictures(items: Sequence[Spectrogram], resolution: int) -> PictureSet:
    """The files of the items, RGB, resized to resolution² by Lanczos. Raises `SpectrogramError` for a file that is no picture."""
    images = torch.empty(len(items), 3, resolution, resolution, dtype=torch.uint8)
    digests = []
    for i, item in enumerate(items):
        pixels = read_pixels(item.path)
        digests.append(hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest())
        small = Image.fromarray(pixels).resize((resolution, resolution), Image.Resampling.LANCZOS)
        images[i] = torch.from_numpy(np.array(small)).permute(2, 0, 1)
    return PictureSet(
        images,
        torch.tensor([item.user for item in items]),
        tuple(item.recording for item in items),
        tuple(f"{item.path.parent.name}/{item.path.name}" for item in items),
        tuple(digests),
        tuple(item.path for item in items),
    )


def read_pixels(path: Path) -> np.ndarray:
    """A file's pixels, (H, W, 3) uint8. Raises `SpectrogramError` where it is no picture."""
    try:
        return load_image(path, None, cell=1).pixels
    except ImageError as error:
        raise SpectrogramError(f"{path}: {error}; remove it or make it anew") from None


def scaled(images: Tensor) -> Tensor:
    """uint8 to fp32 in [−1, 1]."""
    return images.float() / 127.5 - 1.0
