"""The radar: velocities, powers and colours of what is known."""

import numpy as np
import pytest
from relatent.systems.spectrogram.data.radar import (
    BINS,
    COLUMNS,
    HIGHEST_DB,
    LOWEST_DB,
    MAX_SPEED,
    SAMPLE_RATE,
    SAMPLES,
    SECONDS,
    TIMES,
    WAVELENGTH,
    WINDOW,
    baseband,
    colour,
    spectrogram,
)


def speeds():
    """Of the rows, in m/s towards the radar."""
    return MAX_SPEED - 2 * MAX_SPEED / BINS * (1 + np.arange(BINS))


@pytest.mark.parametrize("speed", [-4.0, -1.3, 0.0, 2.5])
@pytest.mark.parametrize("amplitude", [1.0, 0.1])
def test_a_point_shows_at_its_speed_with_its_power(speed, amplitude):
    found = spectrogram(baseband((6 - speed * TIMES)[None], np.array([amplitude])))
    assert found.shape == (BINS, COLUMNS)
    inner = found[:, 1:-1]
    assert abs(speeds()[inner.argmax(axis=0)] - speed).max() <= MAX_SPEED / BINS + 1e-9
    assert inner.max(axis=0) == pytest.approx(20 * np.log10(amplitude), abs=0.5)
    away = abs(speeds() - speed) > 0.6
    assert inner[away].max() < inner.max() - 40  # a clean line: cubic polynomials between the times are enough


def test_a_swinging_point_follows_its_speed():
    turn = 2 * np.pi * 0.9
    found = spectrogram(baseband((6 - 0.5 * np.sin(turn * TIMES))[None], np.ones(1)))
    middle = (np.arange(COLUMNS) + 0.5) * SECONDS / COLUMNS
    expected = 0.5 * turn * np.cos(turn * middle)
    assert abs(speeds()[found.argmax(axis=0)] - expected)[1:-1].max() < 0.2


def test_points_add_up_as_waves():
    ranges = np.stack([6 - 1.0 * TIMES, 6 + WAVELENGTH / 4 - 1.0 * TIMES])  # half a wavelength there and back
    assert abs(baseband(ranges, np.ones(2))).max() < 1e-2
    assert abs(baseband(ranges, np.array([1.0, 0.25]))) == pytest.approx(np.full(SAMPLES, 0.75), abs=1e-2)


def test_the_power_of_noise():
    draw = np.random.default_rng(0)
    noise = draw.standard_normal((2, SAMPLES)) * np.sqrt(WINDOW / 1.5 / 2)
    power = 10 ** (spectrogram(noise[0] + 1j * noise[1])[:, 1:-1] / 10)
    assert power.mean() == pytest.approx(1, rel=0.05)


def test_the_rate_fits_the_speeds():
    assert abs(2 * MAX_SPEED / WAVELENGTH - SAMPLE_RATE / 2) < 1e-6
    assert abs(SECONDS - 3.2) < 0.02
    assert TIMES[1] == 0
    assert TIMES[-2] >= (SAMPLES - 1) / SAMPLE_RATE


def test_colours_are_those_of_one_scale():
    levels = np.linspace(LOWEST_DB - 20, HIGHEST_DB + 20, 500)[None]
    found = colour(levels)[0].astype(int)
    assert found.shape == (500, 3)
    assert (found[0] == found[100]).all()
    assert (found[-1] == found[-100]).all()
    luminance = found @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(luminance) > -1).all()  # never darker for more power
    assert luminance[-1] - luminance[0] > 150
