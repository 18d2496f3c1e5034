"""Small pictures of invented walkers: a bright band that swings about the user's own speed, at the user's own cadence."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from relatent.systems.spectrogram.validation.fitting import FitSettings

FIT = FitSettings(num_users=3, resolution=32, epochs=6, batch_size=8)  # of the pictures of `write_walkers`


def walker(user: int, seed: int, side: int = 32) -> np.ndarray:
    """(side, side, 3) uint8; rows are speeds, columns time."""
    random = np.random.default_rng((user, seed))
    time, speed = np.arange(side), np.arange(side)[:, None]
    swing = (2.0 + 1.5 * (user % 2)) * np.sin(2 * np.pi * ((1.5 + user) * time / side + random.random()))
    centre = side * (0.3 + 0.12 * user) + swing + random.normal(0, 0.3)
    power = np.exp(-0.5 * ((speed - centre) / 1.5) ** 2) + 0.08 * random.random((side, side))
    grey = np.clip(power * random.uniform(0.9, 1.0), 0, 1)
    return (255 * np.stack([grey, grey**2, 0.3 + 0.4 * grey], -1)).astype(np.uint8)


def write_walkers(
    folder: Path, users: int = 3, recordings: int = 3, per_recording: int = 4, side: int = 32, recorded: bool = True
) -> Path:
    """ID_{n}/{recording}_{index}.png, with a spectrograms.json where `recorded`; otherwise as generated pictures are."""
    known = {}
    for user in range(users):
        place = folder / f"ID_{user + 1}"
        place.mkdir(parents=True, exist_ok=True)
        for number in range(recordings * per_recording):
            recording, index = divmod(number, per_recording)
            name = f"walk{recording}_{index:04d}.png" if recorded else f"sample_{number:04d}.png"
            Image.fromarray(walker(user, number + (0 if recorded else 1000), side)).save(place / name)
            known[f"ID_{user + 1}/{name}"] = {"user": user, "recording": f"walk{recording}", "time": float(index)}
    if recorded:
        index_file = {"schema": 1, "simulated": True, "spectrograms": known}
        (folder / "spectrograms.json").write_text(json.dumps(index_file))
    return folder
