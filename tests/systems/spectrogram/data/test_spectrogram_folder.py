"""Reading a folder of spectrograms, with and without what is known of its files."""

import json
import logging

import numpy as np
import pytest
from PIL import Image
from relatent.systems.spectrogram.data.errors import SpectrogramError
from relatent.systems.spectrogram.data.spectrogram_folder import INDEX, SCHEMA, read_spectrograms


def make(folder, names, index=True, **more):
    """Pictures of 8² with these names, such as ID_1/a_0001.png; recording and time are from the name."""
    entries = {}
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 10 * i, np.uint8)).save(path)
        recording, _, number = path.stem.rpartition("_")
        user = int(path.parent.name.removeprefix("ID_")) - 1
        entries[name] = {"user": user, "recording": recording, "time": 2.0 * int(number)}
    if index:
        value = {"schema": SCHEMA, "simulated": False, "spectrograms": {**entries, **more}}
        (folder / INDEX).write_text(json.dumps(value))
    return folder


NAMES = ["ID_2/b_0000.jpg", "ID_1/b_0001.png", "ID_1/b_0000.png", "ID_1/a_0000.JPEG"]


def test_users_recordings_and_times_are_read_in_order(tmp_path):
    make(tmp_path, NAMES)
    (tmp_path / "other").mkdir()
    (tmp_path / "ID_2" / "notes.txt").write_text("none of them")
    found = read_spectrograms(tmp_path)
    assert [(one.user, one.recording, one.time) for one in found] == [
        (0, "a", 0),
        (0, "b", 0),
        (0, "b", 2),
        (1, "b", 0),
    ]
    assert [one.path.name for one in found] == ["a_0000.JPEG", "b_0000.png", "b_0001.png", "b_0000.jpg"]
    assert [one.user for one in read_spectrograms(tmp_path, num_users=1)] == [0, 0, 0]


def test_without_an_index_each_file_is_a_recording_and_a_warning_says_so(tmp_path, caplog):
    make(tmp_path, NAMES, index=False)
    with caplog.at_level(logging.WARNING):
        found = read_spectrograms(tmp_path)
    assert len({(one.user, one.recording) for one in found}) == 4
    assert "split by recording is impossible" in caplog.text


@pytest.mark.parametrize(
    ("names", "users", "message"),
    [
        (["ID_1/a_0000.png", "ID_3/a_0000.png"], None, "ID_2 has no picture"),
        (["ID_1/a_0000.png"], 31, "ID_2 has no picture (30 of 31"),
        (["ID_1/a_0000.png"], 0, "one user or more"),
        (["ID_0/a_0000.png"], None, "holds no folder ID_1"),
        (["ID_01/a_0000.png"], None, "holds no folder ID_1"),
    ],
)
def test_missing_users_are_refused(tmp_path, names, users, message):
    make(tmp_path, names, index=False)
    with pytest.raises(SpectrogramError) as error:
        read_spectrograms(tmp_path, users)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SpectrogramError, match="cannot be read"):
        read_spectrograms(tmp_path / "gone")


GOOD = {"user": 0, "recording": "a", "time": 0}


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("ID_1/gone_0000.png", GOOD, "1 of 2 pictures in spectrograms.json are not there"),
        ("../ID_1/a_0000.png", GOOD, "whose files are in ID_1/"),
        ("ID_2/a_0000.png", GOOD, "whose files are in ID_1/"),
        ("ID_1/a_0000.png", {**GOOD, "user": True}, "expected user"),
        ("ID_1/a_0000.png", {**GOOD, "time": float("nan")}, "expected user"),
        ("ID_1/a_0000.png", {**GOOD, "recording": ""}, "expected user"),
        ("ID_1/a_0000.png", None, "expected user"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(tmp_path, name, entry, message):
    make(tmp_path, ["ID_1/a_0000.png"], **{name: entry})
    with pytest.raises(SpectrogramError, match=message):
        read_spectrograms(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', '{"schema": 1, "simulated": 1, "spectrograms": {}}'])
def test_another_index_is_refused(tmp_path, text):
    make(tmp_path, ["ID_1/a_0000.png"], index=False)
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(SpectrogramError, match=INDEX):
        read_spectrograms(tmp_path)


def test_a_file_that_the_index_does_not_know_is_refused(tmp_path):
    make(tmp_path, ["ID_1/a_0000.png"])
    make(tmp_path, ["ID_1/a_0001.png"], index=False)
    with pytest.raises(SpectrogramError, match=r"a_0001\.png is not in spectrograms\.json"):
        read_spectrograms(tmp_path)


def test_a_picture_is_rgb_of_the_size_asked_for(tmp_path):
    make(tmp_path, ["ID_1/a_0000.png"])
    (one,) = read_spectrograms(tmp_path)
    stripes = np.tile(np.array([0, 255], np.uint8), (40, 20))
    Image.fromarray(stripes).save(one.path)  # greyscale
    expected = np.asarray(Image.fromarray(stripes).convert("RGB").resize((16, 16), Image.Resampling.LANCZOS))
    assert np.array_equal(one.read(16), expected)
    assert np.array_equal(one.read(40), np.repeat(stripes[..., None], 3, axis=2))
    one.path.write_bytes(one.path.read_bytes()[:60])
    with pytest.raises(SpectrogramError, match=r"a_0000\.png"):
        one.read(16)
