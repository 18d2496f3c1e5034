"""Masks and weight maps: one greyscale image for each image, fitted in the same way."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import ImageError, UsageError
from .fitting import Scaled
from .folders import SkippedCounter, walk_folder
from .images import LoadedImage, load_grey
from .sizes import Size
from .sources import Source


class Masks:
    """A folder of masks. The mask of an image has its relative path, with any suffix: a/b.png is the mask of a/b.jpg."""

    def __init__(self, folder: str | Path):
        """Index the folder. Raise `UsageError` where it is not a folder or holds no image."""
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UsageError(f"masks {folder}: no such folder; expected one image per picture, under the same path")
        self._files: dict[str, list[Path]] = {}
        for path, here in sorted(walk_folder(self.folder, (), SkippedCounter())):
            stem = PurePosixPath(here, Path(path).stem).as_posix()
            self._files.setdefault(stem, []).append(Path(path))
        if not self._files:
            raise UsageError(f"masks {folder}: holds no image; expected one per picture, under the same path")

    def find(self, source: Source) -> Path:
        """Return the path of an image's mask. Raise `ImageError` where it is missing or ambiguous."""
        # An entry of a list may point outside the list's folder; ".." is dropped, and the rest is looked up in this
        # folder.
        parts = [part for part in PurePosixPath(source.relative).parts if part not in ("..", "/")]
        stem = PurePosixPath(*parts).with_suffix("").as_posix()
        found = self._files.get(stem, [])
        if not found:
            raise ImageError(f"no mask: expected {self.folder / stem} with any image's ending, white where it counts")
        if len(found) > 1:
            raise ImageError(f"two masks: {' and '.join(file.name for file in found)}; keep one")
        return found[0]

    def apply(
        self, source: Source, image: LoadedImage, size: int | Size, fit: str, scaled: Scaled | None = None
    ) -> LoadedImage:
        """Return `image` with its mask attached: white pixels count fully, black ones not at all, grey ones in
        proportion. It is fitted as the image was, see `images.load_image`.

        Raises `ImageError` for a mask that is missing, ambiguous, unreadable, of another size than the image, or black
        everywhere.
        """
        file = self.find(source)
        try:
            mask = load_grey(file, image.original_size, size, fit, source.mask_sha256, scaled)
        except ImageError as error:
            raise ImageError(f"mask {file}: {error}") from error
        if not mask.any():
            raise ImageError(f"mask {file}: black wherever the picture is kept; nothing is left to optimise")
        share = f"mask applied, {np.mean(mask) / 2.55:.0f} % counts"
        return replace(image, mask=mask, conversions=(*image.conversions, share))
