"""A folder of small pictures in the layout of spectrograms, quick to learn: bands whose course is each user's own."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_spectrograms(folder: Path, users: int = 2, recordings: int = 3, windows: int = 4, side: int = 32) -> Path:
    """PNG files ID_{n}/r{m}_{index}.png, RGB, and spectrograms.json."""
    entries = {}
    rows, columns = np.mgrid[0:side, 0:side] / side
    for user in range(users):
        for recording in range(recordings):
            for window in range(windows):
                phase = 2 * np.pi * (columns * (user + 1) + 0.13 * recording + 0.31 * window)
                band = np.exp(-(((rows - 0.5 - 0.3 * np.sin(phase)) / 0.12) ** 2))
                pixels = 255 * np.stack([band, band**2, 0.3 + 0.4 * (1 - band)], -1)
                name = f"ID_{user + 1}/r{recording}_{window:04d}.png"
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.round().astype(np.uint8)).save(path)
                entries[name] = {"user": user, "recording": f"r{recording}", "time": float(window)}
    index = {"schema": 1, "simulated": True, "spectrograms": entries}
    (folder / "spectrograms.json").write_text(json.dumps(index))
    return folder
