"""Walks of a simulated person in front of a radar: recordings, and one pass of a recording as a picture."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from .body import Cycle, amplitudes, positions
from .gait import Gait
from .radar import SAMPLE_RATE, SAMPLES, SECONDS, TIMES, WAVELENGTH, WINDOW, baseband, colour, spectrogram

PASS_SECONDS = 8.0  # from the start of one pass to that of the next one


@dataclass(frozen=True)
class Recording:
    """What is the same during a recording and differs between those of one person."""

    gait: Gait  # as on this day
    speed: float  # m/s
    aspect: float  # angle between the path and the line of sight, radians
    distance: float  # metres, in the middle of a pass
    gain_db: float
    noise_db: float  # of a bin
    clutter_db: float  # of what moves slowly or not at all
    clutter_width: float  # m/s

    @classmethod
    def draw(cls, gait: Gait, draw: np.random.Generator) -> "Recording":
        """A recording of a person at random."""
        n = draw.standard_normal(10)
        gait = replace(
            gait,
            arm_swing=gait.arm_swing * (1 + 0.08 * n[0]),
            stride=gait.stride * (1 + 0.02 * n[1]),
            cadence=gait.cadence * (1 + 0.015 * n[2]),
            lean=gait.lean + n[3],
            torso_db=gait.torso_db + 0.5 * n[4],
            arms_db=gait.arms_db + 0.8 * n[5],
            legs_db=gait.legs_db + 0.8 * n[6],
        )
        return cls(
            gait,
            speed=float(np.clip(gait.speed * (1 + 0.06 * n[7]), 0.8, 1.5)),
            aspect=float(draw.uniform(-0.45, 0.45)),
            distance=float(draw.uniform(4.5, 8)),
            gain_db=float(n[8]),
            noise_db=float(draw.uniform(-46, -38)),
            clutter_db=float(draw.uniform(-25, 0)),
            clutter_width=float(draw.uniform(0.02, 0.12)),
        )


def draw_pass(recording: Recording, away: bool, draw: np.random.Generator, side: int) -> np.ndarray:
    """The picture of one pass, (side, side, 3) uint8 RGB: velocity upwards from -5 to 5 m/s, positive towards the radar, over 3.2 s.

    away: whether the person walks away from the radar. draw: of what differs from pass to pass, and of the noise.
    """
    decibels = spectrogram(_signal(recording, away, draw))
    if side != len(decibels):
        decibels = np.asarray(Image.fromarray(decibels).resize((side, side), Image.Resampling.LANCZOS))
    return colour(decibels)


def _signal(recording: Recording, away: bool, draw: np.random.Generator) -> np.ndarray:
    gait = recording.gait
    cycle = Cycle.at(gait, recording.speed * (1 + 0.015 * draw.standard_normal()))
    phase = draw.uniform() + cycle.frequency * TIMES + _slow(draw, 0.008)
    points = positions(gait, cycle, phase, 1 + _slow(draw, 0.03))
    # in front of the radar, which is 1 m above the ground; at rest the path's middle is at `distance`
    aspect = recording.aspect + (np.pi if away else 0)
    ahead = np.array([-np.cos(aspect), np.sin(aspect), 0])
    left = np.array([-ahead[1], ahead[0], 0])
    walked = cycle.speed * (TIMES - SECONDS / 2) + points[..., 0]
    places = walked[..., None] * ahead + points[..., 1:2] * left
    places += [recording.distance + 0.3 * draw.standard_normal(), 0, -1]
    places[..., 2] += points[..., 2]
    signal = baseband(np.linalg.norm(places, axis=-1), amplitudes(gait))
    noise = draw.standard_normal((2, SAMPLES), np.float32)
    signal = signal * 10 ** (recording.gain_db / 20)
    # a bin of the spectrogram holds 1.5 / WINDOW of the power of white noise
    signal += (noise[0] + 1j * noise[1]) * np.float32(10 ** (recording.noise_db / 20) * np.sqrt(WINDOW / 1.5 / 2))
    return signal + _clutter(recording, draw)


def _slow(draw: np.random.Generator, deviation: float) -> np.ndarray:
    """A slow random course at TIMES with this standard deviation, from slower than the window to 1 Hz."""
    frequencies, phases = draw.uniform(0.1, 1.0, 3), draw.uniform(0, 2 * np.pi, 3)
    return deviation * np.sqrt(2 / 3) * np.sin(2 * np.pi * (np.outer(TIMES, frequencies) + phases)).sum(axis=1)


def _clutter(recording: Recording, draw: np.random.Generator) -> np.ndarray:
    """What is left of walls and furniture: some lines round the velocity 0."""
    speeds = recording.clutter_width * draw.standard_normal(6)
    phases = draw.uniform(0, 2 * np.pi, 6)
    turn = np.outer(speeds * 4 * np.pi / WAVELENGTH / SAMPLE_RATE, np.arange(SAMPLES)) + phases[:, None]
    turn = turn.astype(np.float32)
    return 10 ** (recording.clutter_db / 20) / np.sqrt(6) * (np.cos(turn) + 1j * np.sin(turn)).sum(axis=0)
