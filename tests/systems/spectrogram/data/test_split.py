"""The split by recording."""

from pathlib import Path

import pytest
from relatent.systems.spectrogram.data.errors import SpectrogramError
from relatent.systems.spectrogram.data.spectrogram import Spectrogram
from relatent.systems.spectrogram.data.split import split_by_recording


def items_of(recordings, windows=3):
    """Spectrograms of users with these numbers of recordings; names of recordings are used again by every user."""
    return [
        Spectrogram(Path(f"{user}-{recording}-{i}.png"), user, f"r{recording}", float(i))
        for user, count in enumerate(recordings)
        for recording in range(count)
        for i in range(windows)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_every_user_is_in_both_parts_and_no_recording_is(seed):
    items = items_of((5, 2, 10))
    training, held_out = split_by_recording(items, 0.2, seed)
    assert {one.user for one in training} == {one.user for one in held_out} == {0, 1, 2}
    parts = [{(one.user, one.recording) for one in part} for part in (training, held_out)]
    assert not parts[0] & parts[1]
    assert sorted(user for user, _ in parts[1]) == [0, 1, 2, 2]
    assert sorted(training + held_out, key=items.index) == items


def test_the_seed_decides_and_other_users_do_not():
    items = items_of((10, 10))
    held_out = [split_by_recording(items, 0.3, seed)[1] for seed in (0, 0, 1)]
    assert held_out[0] == held_out[1] != held_out[2]
    alone = [one for one in items if one.user == 1]
    assert split_by_recording(alone, 0.3, 0)[1] == [one for one in held_out[0] if one.user == 1]
    names = [{one.recording for one in held_out[0] if one.user == user} for user in (0, 1)]
    assert names[0] != names[1]


def test_even_the_largest_part_leaves_a_recording_to_train_with():
    training, held_out = split_by_recording(items_of((2,)), 0.99)
    assert len(training) == len(held_out) == 3


@pytest.mark.parametrize(
    ("items", "part", "message"),
    [
        (items_of((3, 1)), 0.2, r"user 1 \(ID_2\) has one recording only"),
        ([], 0.2, "found none"),
        (items_of((3,)), 1.0, "held_out"),
    ],
)
def test_what_cannot_be_split_is_refused(items, part, message):
    with pytest.raises(SpectrogramError, match=message):
        split_by_recording(items, part)
