"""The pictures that a codec is evaluated on."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ....engine.errors import UsageError
from ....engine.inputs.images import load_image
from ....engine.inputs.sources import discover


def find_pictures(
    given: str | Path | Sequence[Path], limit: int | None = None, exclude: Sequence[Path] = ()
) -> dict[str, Path]:
    """Return files by unique names: those of a folder and its subfolders, a picture, a text file of paths, or a list's.

    limit: the first ones only. exclude: folders that are passed over. Raises UsageError where there is none.
    """
    if isinstance(given, str | Path):
        found = {source.relative: Path(source.path) for source in discover(given, exclude=exclude)}
    else:
        found = {str(path): path for path in given}
    if limit is not None and limit < 1:
        raise UsageError(f"limit: expected at least 1 picture, found {limit}")
    return dict(list(found.items())[:limit])


def read_picture(path: str | Path) -> torch.Tensor:
    """Return a whole picture as (3, H, W) uint8 sRGB, upright as its EXIF orientation says.

    Raises ImageError, which names what is wrong with the file.
    """
    return torch.from_numpy(load_image(path, None, cell=1).pixels).permute(2, 0, 1).contiguous()
