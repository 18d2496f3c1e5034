"""Marks that are drawn into pictures."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from relatent.systems.spectrogram.validation.drawn_marks import drawn_marks
from small_walkers import walker

SIDE = 96


@pytest.fixture(scope="module")
def clean():
    return {user: np.stack([walker(user, seed, SIDE) for seed in range(6)]) for user in range(4)}


def numbered(pictures, corner=(6, 6), colour=(255, 255, 255), size=14):
    """The user's number in each picture."""
    found = {}
    for user, own in pictures.items():
        sheets = [Image.fromarray(picture) for picture in own]
        for sheet in sheets:
            ImageDraw.Draw(sheet).text(corner, f"{user + 1}", colour, ImageFont.load_default(size))
        found[user] = np.stack([np.array(sheet) for sheet in sheets])
    return found


def test_clean_pictures_have_none(clean):
    assert drawn_marks(clean) == []
    assert drawn_marks({0: clean[0]}) == []
    flat = {user: np.full((6, 32, 32, 3), 30 * user, np.uint8) for user in range(3)}
    assert drawn_marks(flat) == []


@pytest.mark.parametrize("corner", [(6, 6), (40, 50), (80, 75)])
@pytest.mark.parametrize("size", [10, 20])
def test_the_number_of_each_user_is_found(clean, corner, size):
    found = drawn_marks(numbered(clean, corner, size=size))
    assert {mark.user for mark in found} == {0, 1, 2, 3}
    for mark in found:
        assert corner[0] - 1 <= mark.left
        assert mark.right <= corner[0] + size + 2
        assert corner[1] - 1 <= mark.top
        assert mark.bottom <= corner[1] + size + 6


def test_a_number_is_found_where_nothing_else_is_steady(clean):
    random = np.random.default_rng(0)
    noisy = {user: (own + random.normal(0, 30, own.shape)).clip(0, 255).astype(np.uint8) for user, own in clean.items()}
    assert drawn_marks(noisy) == []
    assert {mark.user for mark in drawn_marks(numbered(noisy))} == {0, 1, 2, 3}


def test_a_mark_of_one_user_alone_is_found(clean):
    found = drawn_marks({0: numbered({0: clean[0]})[0]})
    assert {mark.user for mark in found} == {0}


def test_a_mark_that_a_model_has_learnt_is_found(clean):
    """Blurred by a codec and with noise, as a decoder draws it."""
    random = np.random.default_rng(0)
    marked = numbered(clean, size=18)
    for user, own in marked.items():
        for i, picture in enumerate(own):
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "JPEG", quality=90)
            decoded = np.array(Image.open(buffer)) + random.normal(0, 2, picture.shape)
            marked[user][i] = decoded.clip(0, 255)
    assert {mark.user for mark in drawn_marks(marked)} == {0, 1, 2, 3}


def test_what_all_users_share_and_what_one_never_reaches_is_none(clean):
    shared = {user: own.copy() for user, own in clean.items()}
    for own in shared.values():
        own[:, 48:50] = 255  # a line of standing clutter
        own[:, 4:12, 4:7] = (255, 255, 0)  # a stroke that is everyone's
    assert drawn_marks(shared) == []


def test_few_pictures_are_not_judged(clean):
    few = {user: own[:3] for user, own in numbered(clean).items()}
    assert drawn_marks(few) == []
