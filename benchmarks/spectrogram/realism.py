"""A check of realism only: measured micro-Doppler maps through a VAE that was trained on simulated ones.

    python -m relatent.benchmarks.spectrogram.realism VAE DATA OUT --real_maps DIR

VAE: what `relatent spectrogram train-vae` wrote. DATA: the simulated spectrograms that it was trained on. DIR: HDF5 files as PARrad's, with
`mDoppler`, (frames, velocities) levels at 10.8 frames a second. Cuts the maps into windows as long as a simulated picture, in the same colours,
and encodes and decodes those in which most moves, and held-out simulated ones beside them. Writes OUT/realism-*.json and OUT/realism.png,
whose rows are real, reconstructed, simulated, reconstructed. The picture shows measured data, so its terms are those of the maps.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ...engine.errors import UsageError
from ...engine.losses.metrics import from_uint8, to_uint8
from ...engine.runtime.atomic import atomic_path
from ...systems.spectrogram.data.dataset import SpectrogramDataset
from ...systems.spectrogram.data.gait import Gait
from ...systems.spectrogram.data.radar import SECONDS, colour, spectrogram
from ...systems.spectrogram.data.spectrogram_folder import read_index, read_spectrograms
from ...systems.spectrogram.data.split import split_by_recording
from ...systems.spectrogram.data.walk import Recording, draw_signal
from ...systems.spectrogram.vae.evaluation import GRID, reconstruction_quality
from ...systems.spectrogram.vae.model import load_vae
from ..results import command_line, run_main, write_result

FRAMES_PER_SECOND = 10.8
STILL = range(58, 71)  # velocities round 0 of 128, which do not count as movement
MOVING = 0.1  # part of the windows that is taken: those in which most moves
FLOOR, PEAK = 50.0, 99.9  # percentiles of what is not still that a measured map shares with simulated ones
MAPS = "mDoppler"
BATCH = 16


class Windows(Dataset[dict[str, Any]]):
    """Pictures (N, R, R, 3) uint8 as samples with `image`, (3, R, R) fp32 in [-1, 1]."""

    def __init__(self, pictures: np.ndarray) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": from_uint8(torch.from_numpy(self.pictures[index].transpose(2, 0, 1)))}


def read_maps(folder: Path) -> list[np.ndarray]:
    """The maps of a folder's HDF5 files, each (frames, velocities) fp64. Raises `UsageError` where there is none."""
    import h5py

    found = []
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as file:
            if MAPS not in file or file[MAPS].ndim != 2:
                raise UsageError(f"{path}: expected {MAPS}, (frames, velocities), found {', '.join(file)}")
            found.append(file[MAPS][:].astype(np.float64))
    if not found:
        raise UsageError(f"{folder} holds no map: expected HDF5 files *.h5 with {MAPS}, (frames, velocities)")
    return found


def cut(level: np.ndarray, side: int) -> np.ndarray:
    """Windows of a map (frames, velocities), in which most moves, as pictures (N, side, side, 3) uint8; velocity is upright, time to the right.

    A map has a unit of its own, so its median and its 99.9th percentile, without velocities round 0, become those of simulated maps.
    """
    decibels = level.T
    (low, high), (floor, peak) = _levels(decibels), _simulated_levels()
    decibels = floor + (decibels - low) * (peak - floor) / (high - low)
    frames = round(SECONDS * FRAMES_PER_SECOND)
    count = decibels.shape[1] // frames
    windows = decibels[:, : count * frames].reshape(len(decibels), count, frames).swapaxes(0, 1)
    moving = np.delete(windows, STILL, axis=1).max(axis=1).mean(axis=1)
    chosen = np.sort(np.argsort(moving)[-max(round(MOVING * count), 1) :])
    size = (side, side)
    resized = [
        Image.fromarray(one.astype(np.float32)).resize(size, Image.Resampling.LANCZOS) for one in windows[chosen]
    ]
    return np.stack([colour(np.asarray(one)) for one in resized])


def _levels(level: np.ndarray) -> tuple[float, float]:
    """The two percentiles of a map (velocities, times)."""
    floor, peak = np.percentile(np.delete(level, STILL, axis=0), (FLOOR, PEAK))
    return float(floor), float(peak)


def _simulated_levels() -> tuple[float, float]:
    """Those of a few simulated maps, dB."""
    maps = []
    for seed in range(4):
        draw = np.random.default_rng(seed)
        maps.append(spectrogram(draw_signal(Recording.draw(Gait.draw(draw), draw), seed % 2 == 1, draw)))
    return _levels(np.concatenate(maps, axis=1))


def compare(vae_dir: Path, data_dir: Path, real_maps: Path) -> tuple[dict[str, Any], np.ndarray]:
    """PSNR and SSIM of real and of simulated held-out windows, and a picture (H, W, 3) uint8 of a few, rows as in the module's docstring."""
    vae, record = load_vae(vae_dir)
    side = int(record["resolution"])
    maps = read_maps(real_maps)
    index = read_index(data_dir)
    if index is None or not index["simulated"]:
        raise UsageError(f"{data_dir} is not simulated; give the spectrograms of `relatent spectrogram simulate`")
    items = read_spectrograms(data_dir)
    held_out = split_by_recording(items, record.get("held_out", 0.2), record.get("split_seed", 0))[1]
    real = Windows(np.concatenate([cut(level, side) for level in maps]))
    sets: dict[str, Any] = {"real": real, "simulated": SpectrogramDataset(held_out, side)}
    figures: dict[str, Any] = {"maps": len(maps)}
    rows: list[np.ndarray] = []
    for name, dataset in sets.items():
        found = reconstruction_quality(vae, dataset, BATCH)
        figures[name] = {"psnr": found.psnr, "ssim": found.ssim, "pictures": len(dataset)}
        rows += _rows(reconstruction_quality(vae, dataset, GRID, GRID).shown)  # evenly spread ones
    return figures, np.concatenate(rows)


def _rows(shown: torch.Tensor) -> list[np.ndarray]:
    """shown: (2, n, 3, R, R) in [-1, 1], to two rows (R, GRID · R, 3) uint8; what is missing is black."""
    pixels = to_uint8(shown).permute(0, 1, 3, 4, 2).numpy()
    pixels = np.pad(pixels, ((0, 0), (0, GRID - pixels.shape[1]), (0, 0), (0, 0), (0, 0)))
    return [np.concatenate(list(row), axis=1) for row in pixels]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("vae", "data", "out"):
        parser.add_argument(name, metavar=name.upper(), type=Path)
    parser.add_argument("--real_maps", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    figures, sheet = compare(options.vae, options.data, options.real_maps)
    command = command_line("spectrogram.realism", arguments)
    print(write_result("realism", torch.device("cpu"), command, figures, options.out))
    with atomic_path(options.out / "realism.png") as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG")
    for name in ("real", "simulated"):
        one = figures[name]
        print(f"{name}: PSNR {one['psnr']:.2f} dB, SSIM {one['ssim']:.3f}, {one['pictures']} pictures")


if __name__ == "__main__":
    run_main(main)
