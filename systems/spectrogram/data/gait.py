"""A person's gait: sizes, angles, timing and reflectivity that differ from person to person."""

from dataclasses import dataclass, fields

import numpy as np

# What a person's value is drawn from, a normal distribution cut off at two standard deviations: (mean, standard deviation).
# Sizes and speeds are those of healthy adults; the reflectivities in dB are relative to those in `body.POINTS`.
_PEOPLE = {
    "height": (1.72, 0.09),
    "speed": (1.15, 0.09),
    "cadence": (1.0, 0.06),
    "duty": (0.60, 0.02),
    "stride": (1.0, 0.06),
    "knee_stance": (17.0, 5.0),
    "knee_swing": (58.0, 5.0),
    "arm_swing": (20.0, 6.0),
    "arm_offset": (-2.0, 5.0),
    "elbow": (25.0, 9.0),
    "elbow_swing": (10.0, 5.0),
    "arm_lag": (0.0, 0.05),
    "surge": (0.018, 0.006),
    "surge_phase": (0.0, 0.08),
    "pelvis_turn": (5.0, 2.0),
    "shoulder_turn": (7.0, 3.0),
    "lean": (4.0, 3.0),
    "leg_asymmetry": (0.0, 0.05),
    "arm_asymmetry": (0.0, 0.2),
    "step_asymmetry": (0.0, 0.015),
    "torso_db": (0.0, 1.5),
    "arms_db": (0.0, 2.5),
    "legs_db": (0.0, 2.0),
    "feet_db": (0.0, 2.5),
}


@dataclass(frozen=True)
class Gait:
    """What makes a person's walk. Angles are in degrees, phases in parts of the gait cycle, which is two steps."""

    height: float  # metres
    speed: float  # preferred, metres per second
    cadence: float  # factor of the cycle's frequency at a given speed
    duty: float  # part of the cycle during which a foot is on the ground
    stride: float  # factor of the hip's range
    knee_stance: float  # the knee's flexion after the heel strike
    knee_swing: float  # and while the leg swings
    arm_swing: float  # the shoulder's amplitude
    arm_offset: float  # and its mean, forwards
    elbow: float  # mean flexion
    elbow_swing: float  # and its amplitude
    arm_lag: float  # of the arm behind the opposite leg
    surge: float  # forward and back motion of the torso, twice a cycle: amplitude in metres
    surge_phase: float
    pelvis_turn: float  # about the vertical, amplitude
    shoulder_turn: float  # against the pelvis, amplitude
    lean: float  # forward inclination of the torso
    leg_asymmetry: float  # the left leg's range is larger by this part, the right one's smaller
    arm_asymmetry: float
    step_asymmetry: float  # the right step is later by this
    torso_db: float  # reflectivity against the average person's
    arms_db: float
    legs_db: float
    feet_db: float

    @classmethod
    def draw(cls, draw: np.random.Generator) -> "Gait":
        """A person at random."""
        values = np.clip(draw.standard_normal(len(_PEOPLE)), -2, 2)
        named = dict(zip(_PEOPLE, values, strict=True))
        return cls(
            **{one.name: float(_PEOPLE[one.name][0] + _PEOPLE[one.name][1] * named[one.name]) for one in fields(cls)}
        )
