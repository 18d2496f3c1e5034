"""A person's gait: sizes, angles, timing and reflectivity that differ from person to person."""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np


def _normal(mean: float, deviation: float) -> Any:
    """A field that is drawn from a normal distribution."""
    return field(metadata={"normal": (mean, deviation)})


@dataclass(frozen=True)
class Gait:
    """What makes a person's walk. Angles are in degrees, phases in parts of the gait cycle, which is two steps.

    Each field states mean and standard deviation among people: sizes and speeds of healthy adults walking at ease.
    """

    height: float = _normal(1.72, 0.09)  # metres
    speed: float = _normal(1.15, 0.09)  # preferred, metres per second
    cadence: float = _normal(1.0, 0.06)  # factor of the cycle's frequency at a given speed
    duty: float = _normal(0.60, 0.02)  # part of the cycle during which a foot is on the ground
    stride: float = _normal(1.0, 0.06)  # factor of the hip's range
    knee_stance: float = _normal(17.0, 5.0)  # the knee's flexion after the heel strike
    knee_swing: float = _normal(58.0, 5.0)  # and while the leg swings
    arm_swing: float = _normal(20.0, 6.0)  # the shoulder's amplitude
    arm_offset: float = _normal(-2.0, 5.0)  # and its mean, forwards
    elbow: float = _normal(25.0, 9.0)  # mean flexion
    elbow_swing: float = _normal(10.0, 5.0)  # and its amplitude
    arm_lag: float = _normal(0.0, 0.05)  # of the arm behind the opposite leg
    surge: float = _normal(0.018, 0.006)  # forward and back motion of the torso, twice a cycle: amplitude in metres
    surge_phase: float = _normal(0.0, 0.08)
    pelvis_turn: float = _normal(5.0, 2.0)  # about the vertical, amplitude
    shoulder_turn: float = _normal(7.0, 3.0)  # against the pelvis, amplitude
    lean: float = _normal(4.0, 3.0)  # forward inclination of the torso
    leg_asymmetry: float = _normal(0.0, 0.05)  # the left leg's range is larger by this part, the right one's smaller
    arm_asymmetry: float = _normal(0.0, 0.2)
    step_asymmetry: float = _normal(0.0, 0.015)  # the right step is later by this
    torso_db: float = _normal(0.0, 1.5)  # reflectivity against the average person's
    arms_db: float = _normal(0.0, 2.5)
    legs_db: float = _normal(0.0, 2.0)
    feet_db: float = _normal(0.0, 2.5)

    @classmethod
    def draw(cls, draw: np.random.Generator) -> "Gait":
        """A person at random: each value from its normal distribution, clipped at two standard deviations."""
        mean, deviation = np.array([one.metadata["normal"] for one in fields(cls)]).T
        return cls(*(mean + deviation * np.clip(draw.standard_normal(len(mean)), -2, 2)).tolist())
