"""A walking body as points that reflect: joint angles over the gait cycle, and where the points are.

After R. Boulic, N. Magnenat-Thalmann and D. Thalmann, A global human walking model with real-time kinematic personification,
The Visual Computer 6 (1990): speed over leg length decides frequency and ranges. Angles follow the usual curves of level walking
(D. A. Winter, Biomechanics and Motor Control of Human Movement), lengths of segments are parts of the height (ibid.).
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from .gait import Gait

LEG = 0.530  # height of the hips, of the height of the person; the other lengths are parts of it too
_THIGH, _SHANK, _FOOT = 0.245, 0.246, 0.11
_UPPER_ARM, _FOREARM = 0.186, 0.200  # the latter with half of the hand
_TRUNK, _HEAD = 0.288, 0.12
_HIPS, _SHOULDERS = 0.095, 0.125  # half widths
_TURN = 0.09  # the hip is bent back furthest this part of the cycle before the foot leaves the ground

# how far along each segment its points are, and their amplitude in dB against one of the torso's
_POINTS = {
    "torso": (0.05, 0.4, 0.7, 0.95),
    "head": (1.0,),
    "upper arm": (0.3, 0.8),
    "forearm": (0.2, 0.6, 1.0),
    "thigh": (0.3, 0.6, 0.9),
    "shank": (0.2, 0.45, 0.7, 0.95),
    "foot": (0.1, 0.9),
}
_DECIBELS = {
    "torso": 0.0,
    "head": -7.0,
    "upper arm": -17.0,
    "forearm": -18.0,
    "thigh": -12.0,
    "shank": -14.0,
    "foot": -15.0,
}
_LIMBS = ("upper arm", "forearm", "thigh", "shank", "foot")  # the left ones, then the right ones


@dataclass(frozen=True)
class Cycle:
    """How fast somebody walks, and how wide the hips open: speed in m/s, frequency in cycles/s, hip amplitude in degrees."""

    speed: float
    frequency: float
    hip: float

    @classmethod
    def at(cls, gait: Gait, speed: float) -> "Cycle":
        """The cycle of a gait at a speed: its frequency is √(v / l) / 1.346 with l the length of the leg (Boulic et al.), and the hips
        open as far as the body moves while one foot stands.
        """
        leg = LEG * gait.height
        frequency = gait.cadence * np.sqrt(speed / leg) / 1.346
        sweep = gait.stride * speed * (gait.duty - _TURN) / frequency / (2 * leg)
        return cls(speed, float(frequency), float(np.degrees(np.arcsin(min(sweep, 0.8)))))


def amplitudes(gait: Gait) -> np.ndarray:
    """Amplitude of each point's reflection, in the order of `positions`."""
    own = {"torso": gait.torso_db, "head": gait.torso_db, "foot": gait.feet_db}
    own |= {"upper arm": gait.arms_db, "forearm": gait.arms_db, "thigh": gait.legs_db, "shank": gait.legs_db}
    segments = ("torso", "head", *_LIMBS, *_LIMBS)
    return 10 ** (np.concatenate([[_DECIBELS[one] + own[one]] * len(_POINTS[one]) for one in segments]) / 20)


def positions(gait: Gait, cycle: Cycle, phase: np.ndarray, swing: np.ndarray) -> np.ndarray:
    """Where the points are against the place where the body would be if it moved evenly: (points, times, 3), metres forwards, to the
    left and upwards from the ground.

    phase: (times,), in cycles from a left heel strike on. swing: (times,), a factor of the range of arms and legs.
    """
    turn = 2 * np.pi * phase
    surge = gait.surge * np.sin(2 * (turn + 2 * np.pi * gait.surge_phase))
    lift = 0.013 * gait.height * np.cos(2 * turn - 2.2)
    hips = np.stack([surge, 0.02 * np.sin(turn), LEG * gait.height + lift], axis=-1)
    lean = np.radians(gait.lean + 1.5 * np.sin(2 * turn))
    up = np.stack([np.sin(lean), np.zeros_like(lean), np.cos(lean)], axis=-1)
    points = [hips + part * _TRUNK * gait.height * up for part in _POINTS["torso"]]
    neck = hips + _TRUNK * gait.height * up
    points.append(neck + _HEAD * gait.height * up)
    for side, own in ((1, phase), (-1, phase + 0.5 + gait.step_asymmetry)):
        yaw = np.radians(gait.shoulder_turn) * np.cos(turn - 2 * np.pi * gait.arm_lag)
        shoulder = neck + side * _SHOULDERS * gait.height * _sideways(-yaw)
        points += _arm(gait, shoulder, own, swing * (1 + side * gait.arm_asymmetry))
        hip = hips + side * _HIPS * gait.height * _sideways(np.radians(gait.pelvis_turn) * np.cos(turn))
        points += _leg(gait, cycle, hip, own, swing * (1 + side * gait.leg_asymmetry))
    return np.stack(points)


def _sideways(yaw: np.ndarray) -> np.ndarray:
    """(times, 3), the direction to the left of a body turned so that its left side is forwards by `yaw`, radians."""
    return np.stack([np.sin(yaw), np.cos(yaw), np.zeros_like(yaw)], axis=-1)


def _along(angle: np.ndarray) -> np.ndarray:
    """(times, 3), downwards, swung forwards by an angle in degrees."""
    angle = np.radians(angle)
    return np.stack([np.sin(angle), np.zeros_like(angle), -np.cos(angle)], axis=-1)


def _arm(gait: Gait, shoulder: np.ndarray, phase: np.ndarray, swing: np.ndarray) -> list[np.ndarray]:
    """phase: of the leg on the same side; the arm is forwards half a cycle later."""
    wave = -np.cos(2 * np.pi * (phase - gait.arm_lag))
    upper = gait.arm_offset + gait.arm_swing * swing * wave
    lower = upper + gait.elbow + gait.elbow_swing * swing * wave
    elbow = shoulder + _UPPER_ARM * gait.height * _along(upper)
    points = [shoulder + part * (elbow - shoulder) for part in _POINTS["upper arm"]]
    return points + [elbow + part * _FOREARM * gait.height * _along(lower) for part in _POINTS["forearm"]]


def _leg(gait: Gait, cycle: Cycle, hip: np.ndarray, phase: np.ndarray, swing: np.ndarray) -> list[np.ndarray]:
    """phase: of this leg, whose heel strikes at 0."""
    off = gait.duty
    # parts of the hip's amplitude round a mean that is forwards; degrees of the knee and of the foot, toes up
    thigh = (
        cycle.hip
        * swing
        * (0.3 + _curve(((0.0, 1.0), (0.25, 0.05), (off - _TURN, -1.0), (off + 0.08, 0.0), (0.86, 1.04)), phase))
    )
    low, high = gait.knee_stance, gait.knee_swing
    knee = _curve(
        ((0.0, 4.0), (0.14, low), (0.38, 5.0), (off, 0.66 * high), (off + 0.1, high), (0.85, 0.52 * high), (0.97, 3.0)),
        phase,
    )
    pitch = _curve(((0.0, 20.0), (0.1, 0.0), (0.35, -2.0), (off, -55.0), (off + 0.15, -30.0), (0.9, 15.0)), phase)
    shank = thigh - knee
    joint = hip + _THIGH * gait.height * _along(thigh)
    ankle = joint + _SHANK * gait.height * _along(shank)
    points = [hip + part * (joint - hip) for part in _POINTS["thigh"]]
    points += [joint + part * (ankle - joint) for part in _POINTS["shank"]]
    return points + [ankle + part * _FOOT * gait.height * _along(90 + pitch) for part in _POINTS["foot"]]


def _curve(knots: tuple[tuple[float, float], ...], phase: np.ndarray) -> np.ndarray:
    """A smooth periodic curve through the knots (phase, value)."""
    places, values = (list(one) for one in zip(*knots, strict=True))
    return CubicSpline([*places, places[0] + 1], [*values, values[0]], bc_type="periodic")(phase % 1)
