"""Folders of simulated spectrograms: the same for the same seed, resumable, and without marks of who it is."""

import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.data import simulate as simulation
from relatent.systems.spectrogram.data.errors import SpectrogramError
from relatent.systems.spectrogram.data.radar import MAX_SPEED
from relatent.systems.spectrogram.data.simulate import simulate
from relatent.systems.spectrogram.data.spectrogram_folder import read_index, read_spectrograms
from relatent.systems.spectrogram.data.split import split_by_recording

SMALL = {"users": 2, "recordings": 2, "windows": 2, "side": 32}


@pytest.fixture(scope="module")
def walkers(tmp_path_factory):
    """Six users with three recordings of eight windows, and the luminance of their pictures by user and recording."""
    folder = tmp_path_factory.mktemp("walkers")
    simulate(folder, users=6, recordings=3, windows=8, side=32)
    items = read_spectrograms(folder)
    pixels = np.stack([one.read(32) for one in items])
    return items, pixels @ np.array([0.299, 0.587, 0.114]) / 255


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_can_be_read_and_split(tmp_path):
    result = simulate(tmp_path / "a", **SMALL)
    assert (result["pictures"], result["made"], result["simulated"]) == (8, 8, True)
    index = read_index(tmp_path / "a")
    assert index["simulated"] is True
    assert "no measurement of a person" in index["description"]
    items = read_spectrograms(tmp_path / "a")
    assert [(one.user, one.recording, one.time) for one in items[:3]] == [
        (0, "01-1", 0),
        (0, "01-1", 8),
        (0, "01-2", 0),
    ]
    assert items[0].path.name == "01-1_0000.png"
    assert items[0].read(32).shape == (32, 32, 3)
    assert [len(part) for part in split_by_recording(items)] == [4, 4]


def test_the_seed_decides_and_the_number_of_users_does_not(tmp_path):
    runs = {
        "once": SMALL,
        "again": SMALL,
        "more": {**SMALL, "users": 3, "recordings": 3},
        "other": {**SMALL, "seed": 1},
    }
    for name, settings in runs.items():
        simulate(tmp_path / name, **settings)
    once, again, more, other = (contents(tmp_path / name) for name in runs)
    assert once == again
    pictures = [name for name in once if name.endswith(".png")]
    assert all(more[name] == once[name] for name in pictures)
    assert all(other[name] != once[name] for name in pictures)
    assert len({once[name] for name in pictures}) == len(pictures)


def test_it_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    simulate(tmp_path / "whole", **SMALL)

    def stop(done, users):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "parts", **SMALL, notify=stop)
    (tmp_path / "parts" / ".ID_2.partial-1").mkdir()  # a process was killed
    with pytest.raises(SpectrogramError, match="finish what writes them"):
        read_spectrograms(tmp_path / "parts")
    assert simulate(tmp_path / "parts", **SMALL)["made"] == 4
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert [path.name for path in (tmp_path / "parts").iterdir() if path.name.startswith(".")] == []
    (tmp_path / "parts" / "ID_1" / "01-2_0001.png").unlink()
    assert simulate(tmp_path / "parts", **SMALL)["made"] == 4
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert simulate(tmp_path / "parts", **SMALL)["made"] == 0


def test_other_spectrograms_are_left_alone(tmp_path):
    simulate(tmp_path, **SMALL)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="users 2, not 3; seed 0, not 7"):
        simulate(tmp_path, **{**SMALL, "users": 3, "seed": 7})
    (tmp_path / "spectrograms.json").unlink()
    with pytest.raises(SpectrogramError, match="holds other spectrograms"):
        simulate(tmp_path, **SMALL)
    (tmp_path / "spectrograms.json").write_text('{"schema": 1, "simulated": false, "spectrograms": {}}')
    with pytest.raises(SpectrogramError, match="not simulated"):
        simulate(tmp_path, **SMALL)
    shutil.copyfile(tmp_path / "ID_1/01-1_0000.png", tmp_path / "file")
    with pytest.raises(SpectrogramError, match="cannot be made"):
        simulate(tmp_path / "file" / "below", **SMALL)
    assert all(contents(tmp_path)[name] == before[name] for name in before if name.endswith(".png"))


@pytest.mark.parametrize(("name", "value"), [("users", 0), ("windows", -1), ("seed", -1), ("side", 4), ("side", 5000)])
def test_impossible_numbers_are_refused_before_anything_is_made(tmp_path, name, value):
    with pytest.raises(UsageError, match="expected"):
        simulate(tmp_path / "out", **{**SMALL, name: value})
    assert not (tmp_path / "out").exists()


def test_a_user_has_no_influence_on_pictures_but_by_the_gait(tmp_path, monkeypatch):
    generator = simulation._generator
    monkeypatch.setattr(simulation, "_generator", lambda seed, user, *key: generator(seed, 5, *key))
    simulate(tmp_path, **{**SMALL, "users": 12})  # all of them one person
    by_user = [
        [one.read(32).tobytes() for one in read_spectrograms(tmp_path) if one.user == user] for user in range(12)
    ]
    assert all(pictures == by_user[0] for pictures in by_user)


def darkest(luminance):
    """Per user the largest value among pixels far from the torso of what each pixel shows in the user's darkest picture."""
    rows = abs(np.linspace(MAX_SPEED, -MAX_SPEED, luminance.shape[1])) > 2.5
    return [
        float(luminance[users][:, rows].min(axis=0).max()) for users in (slice(i, i + 24) for i in range(0, 144, 24))
    ]


def test_nothing_is_drawn_into_the_margins(walkers):
    _, luminance = walkers
    dark = luminance.min()
    assert max(darkest(luminance)) < dark + 0.1
    marked = luminance.copy()
    for i, picture in enumerate(marked):
        image = Image.fromarray(picture.astype(np.float32))
        ImageDraw.Draw(image).text((1, -1), str(i // 24), fill=0.5)
        marked[i] = np.asarray(image)
    assert min(darkest(marked)) > dark + 0.1  # the check sees a number


def features(luminance):
    """What does not depend on when a cycle begins: pictures away from the radar are turned round, then the mean, the spread and the
    spectrum over time at each velocity.
    """
    away = luminance[:, 16:].sum((1, 2)) > luminance[:, :16].sum((1, 2))
    pictures = np.where(away[:, None, None], luminance[:, ::-1], luminance)
    spectrum = abs(np.fft.rfft(pictures - pictures.mean(2, keepdims=True), axis=2))[..., 1:8]
    return np.concatenate([pictures.mean(2), pictures.std(2), spectrum.reshape(len(pictures), -1)], axis=1)


def test_walkers_are_told_apart_in_recordings_never_seen(walkers):
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    items, luminance = walkers
    values, users = features(luminance), np.array([one.user for one in items])
    parts = split_by_recording(items, 0.34)
    training, held_out = ([items.index(one) for one in part] for part in parts)
    model = make_pipeline(StandardScaler(), PCA(20, random_state=0), LinearDiscriminantAnalysis())
    assert model.fit(values[training], users[training]).score(values[held_out], users[held_out]) > 0.7
    shuffled = np.random.default_rng(0).permutation(users[training])
    assert model.fit(values[training], shuffled).score(values[held_out], users[held_out]) < 0.4  # chance is 0.17


def test_windows_of_one_recording_resemble_each_other_most(walkers):
    items, luminance = walkers
    values = features(luminance)
    values = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    distances = np.linalg.norm(values[:, None] - values, axis=-1)
    users, recordings = (np.array([getattr(one, name) for one in items]) for name in ("user", "recording"))
    same_user = users[:, None] == users
    same_recording = recordings[:, None] == recordings
    apart = [
        np.median(distances[same & ~np.eye(len(items), dtype=bool)])
        for same in (same_recording, same_user & ~same_recording, ~same_user)
    ]
    assert apart[0] < 0.95 * apart[1]
    assert apart[1] < 0.95 * apart[2]
