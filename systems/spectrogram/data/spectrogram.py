"""One spectrogram of a walker, as a picture file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ....engine.errors import ImageError
from ....engine.inputs.images import load_image
from .errors import SpectrogramError


@dataclass(frozen=True)
class Spectrogram:
    """A picture file and what is known of it.

    user: from 0 on, the number of the folder `ID_{n}` minus 1. recording: the name of the recording that it is a window of; the same
    name of two users means two recordings. time: where the window starts, seconds from the start of the recording.
    """

    path: Path
    user: int
    recording: str
    time: float

    def read(self, side: int) -> np.ndarray:
        """The picture as (side, side, 3) uint8 RGB, scaled with a Lanczos filter where it has another size.

        Raises SpectrogramError where the file cannot be used.
        """
        try:
            pixels = load_image(self.path, None, cell=1).pixels
        except ImageError as error:
            raise SpectrogramError(f"{self.path}: {error}") from error
        if pixels.shape[:2] == (side, side):
            return pixels
        return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))
