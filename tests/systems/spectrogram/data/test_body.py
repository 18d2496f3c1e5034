"""The walking body: what is known of walking holds for persons at random."""

import dataclasses

import numpy as np
import pytest
from relatent.systems.spectrogram.data.body import LEG, Cycle, amplitudes, positions
from relatent.systems.spectrogram.data.gait import Gait

PHASE = np.arange(400) / 400
LEFT_HAND, LEFT_ANKLE, LEFT_HEEL, RIGHT_ANKLE = 9, 16, 17, 30  # among the points
SYMMETRIC = {"leg_asymmetry": 0.0, "arm_asymmetry": 0.0, "step_asymmetry": 0.0}


def person(seed, **changes):
    return dataclasses.replace(Gait.draw(np.random.default_rng(seed)), **changes)


def walk(gait):
    """Positions (points, times, 3) in a cycle, the speed forwards over the ground, and the cycle."""
    cycle = Cycle.at(gait, gait.speed)
    places = positions(gait, cycle, PHASE, np.ones_like(PHASE))
    ahead = (np.roll(places[..., 0], -1, axis=1) - np.roll(places[..., 0], 1, axis=1)) * 200 * cycle.frequency
    return places, ahead + cycle.speed, cycle


@pytest.mark.parametrize("seed", range(8))
def test_feet_stand_and_swing_while_the_body_goes_on_evenly(seed):
    places, speed, cycle = walk(person(seed, **SYMMETRIC))
    assert len(places) == len(amplitudes(person(seed)))
    assert abs(np.median(speed[LEFT_ANKLE, 20:180])) < 0.4  # stands
    assert 2.3 * cycle.speed < speed[LEFT_ANKLE, 240:].max() < 5  # swings
    assert abs(speed[:5] - cycle.speed).max() < 0.5  # torso and head
    assert speed.mean(axis=1) == pytest.approx(cycle.speed)  # nothing stays behind
    assert -0.05 < places[LEFT_HEEL, :, 2].min() < 0.15  # metres above the ground
    assert places[..., 2].max() < 1.1 * person(seed).height


def test_the_right_side_is_half_a_cycle_later_and_arms_swing_against_the_legs():
    places, _, _ = walk(person(3, **SYMMETRIC))
    left, right = places[LEFT_ANKLE, :, 0], places[RIGHT_ANKLE, :, 0]
    assert np.roll(left, 200) == pytest.approx(right, abs=0.02)
    assert np.corrcoef(left, places[LEFT_HAND, :, 0])[0, 1] < -0.5


def test_the_cycle_follows_speed_and_leg():
    gait = person(0, cadence=1.0)
    slow, fast = (Cycle.at(gait, speed) for speed in (1.0, 1.44))
    assert slow.frequency == pytest.approx(np.sqrt(1.0 / (LEG * gait.height)) / 1.346)
    assert fast.frequency / slow.frequency == pytest.approx(1.2)
    assert fast.hip > slow.hip
    assert 0.65 < slow.frequency < 1.0  # strides per second


def test_persons_differ_and_the_draw_decides():
    assert person(1) == person(1) != person(2)
    heights = [person(seed).height for seed in range(300)]
    assert np.mean(heights) == pytest.approx(1.72, abs=0.02)
    assert 1.5 < min(heights) < max(heights) < 1.95


def test_reflectivity_is_in_decibels_of_its_part():
    gait = person(0)
    louder = amplitudes(dataclasses.replace(gait, legs_db=gait.legs_db + 6)) / amplitudes(gait)
    legs = [*range(10, 17), *range(24, 31)]  # feet have their own
    assert np.flatnonzero(louder > 1.1).tolist() == legs
    assert louder[legs] == pytest.approx(10 ** (6 / 20))
