"""Measured maps as windows, and through a VAE beside simulated spectrograms."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from relatent.benchmarks.spectrogram import realism
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.data.radar import colour
from tiny_diffusion import tiny_vae
from vae_spectrograms import write_spectrograms

pytestmark = pytest.mark.usefixtures("one_thread")
PARRAD = Path(__file__).resolve().parents[4] / "shared" / "data" / "doppler" / "parrad"


def invented_map(frames=350):
    """(frames, 128): noise, a strong line at velocity 0, and in frames 70 to 105 something that moves, in rows 20 to 30."""
    level = 5000 + 20 * np.random.default_rng(0).standard_normal((frames, 128)).astype(np.float32)
    level[:, 64] = 9000
    level[70:105, 20:30] = 7000
    return level


def test_the_window_in_which_something_moves():
    (picture,) = realism.cut(invented_map(), 128)  # a tenth of ten windows
    assert (picture.shape, picture.dtype) == ((128, 128, 3), np.uint8)
    floor, peak = (colour(np.array([value])).astype(int)[0] for value in realism._simulated_levels())
    assert np.abs(picture[20:30].mean((0, 1)) - peak).max() < 25  # in the colour of a simulated walker
    assert np.abs(picture[80:].mean((0, 1)) - floor).max() < 25


def write_maps(folder):
    folder.mkdir()
    with h5py.File(folder / "a.h5", "w") as file:
        file["mDoppler"] = invented_map()
    return folder


def test_figures_and_picture_are_written_to_the_folder_alone(tmp_path, capsys):
    data, vae, maps = write_spectrograms(tmp_path / "data"), tiny_vae(tmp_path / "vae"), write_maps(tmp_path / "maps")
    realism.main([*map(str, (vae, data, tmp_path / "out")), "--real_maps", str(maps)])
    assert "real: PSNR" in capsys.readouterr().out
    (path,) = (tmp_path / "out").glob("*.json")
    found = json.loads(path.read_text())
    assert (found["maps"], found["real"]["pictures"], found["simulated"]["pictures"]) == (1, 1, 8)
    with Image.open(tmp_path / "out/realism.png") as picture:
        assert picture.size == (8 * 32, 4 * 32)


def test_folders_that_do_not_fit(tmp_path):
    data, vae, maps = write_spectrograms(tmp_path / "data"), tiny_vae(tmp_path / "vae"), write_maps(tmp_path / "maps")
    with pytest.raises(UsageError, match="holds no map"):
        realism.compare(vae, data, tmp_path)
    (data / "spectrograms.json").unlink()
    with pytest.raises(UsageError, match="is not simulated"):
        realism.compare(vae, data, maps)
    with h5py.File(maps / "b.h5", "w") as file:
        file["other"] = [1]
    with pytest.raises(UsageError, match="found other"):
        realism.read_maps(maps)


def test_parrad():
    if not PARRAD.is_dir():
        pytest.skip("../shared/data/doppler is not here: PARrad's maps are not part of the project")
    for level in realism.read_maps(PARRAD):
        pictures = realism.cut(level, 64)
        assert pictures.shape == (19, 64, 64, 3) or pictures.shape == (20, 64, 64, 3)
        assert pictures.std() > 20  # neither black nor saturated
