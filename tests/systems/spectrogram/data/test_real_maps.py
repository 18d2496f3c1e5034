"""Simulated spectrograms beside two real maps, as far as such different radars can be compared: traits, not likeness."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from relatent.systems.spectrogram.data.gait import Gait
from relatent.systems.spectrogram.data.radar import spectrogram
from relatent.systems.spectrogram.data.walk import Recording, draw_signal

PARRAD = Path(__file__).resolve().parents[5] / "shared" / "data" / "doppler" / "parrad"


def real_maps():
    """Level by velocity and frame, 10.8 frames a second: of each map the tenth of the frames in which most moves."""
    for path in sorted(PARRAD.glob("*.h5")):
        with h5py.File(path) as file:
            level = file["mDoppler"][:].T
        moving = np.delete(level, range(58, 71), axis=0).max(axis=0)
        moving = np.convolve(moving, np.ones(32) / 32, "valid")[::32]  # blocks of 3 s
        best = np.argsort(moving)[-len(moving) // 10 :]
        yield np.concatenate([level[:, 32 * i : 32 * i + 32] for i in best], axis=1)


def simulated_maps():
    for seed in range(4):
        draw = np.random.default_rng(seed)
        level = spectrogram(draw_signal(Recording.draw(Gait.draw(draw), draw), seed % 2 == 1, draw))
        yield 10 * np.log10((10 ** (level / 10)).reshape(128, 32, 4).mean(axis=2))  # 10 frames a second


def traits(level):
    """Numbers that do not depend on the unit of the level; the line at velocity 0 is left out."""
    level = np.delete(level, range(61, 68), axis=0)
    floor = np.median(level)
    scaled = (level - floor) / (floor - np.percentile(level, 16))
    return {
        "above": float((scaled > 4).mean()),
        "brightest": float(np.percentile(scaled, 99.9)),
        "skewness": float(((scaled - scaled.mean()) ** 3).mean() / scaled.std() ** 3),
        "in time": float(np.corrcoef(level[:, 1:].ravel(), level[:, :-1].ravel())[0, 1]),
        "in velocity": float(np.corrcoef(level[1:].ravel(), level[:-1].ravel())[0, 1]),
    }


@pytest.mark.parametrize("maps", [real_maps, simulated_maps])
def test_a_moving_body_over_a_floor_of_noise(maps):
    if maps is real_maps and not PARRAD.is_dir():
        pytest.skip("../shared/data/doppler is not here: PARrad's maps are not part of the project")
    found = [traits(level) for level in maps()]
    print(*found, sep="\n")
    for one in found:
        assert 0.01 < one["above"] < 0.5  # most of the map is floor
        assert one["brightest"] > 10
        assert one["skewness"] > 0.5  # what moves is far above the floor, nothing is far below
        assert one["in time"] > 0.6  # it goes on from frame to frame
        assert one["in velocity"] > 0.6
