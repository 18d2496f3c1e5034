"""The whole validation, and its page."""

import json
import shutil
import socket
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image, ImageDraw
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.data.errors import SpectrogramError
from relatent.systems.spectrogram.report.charts import chart, confusion
from relatent.systems.spectrogram.report.page import write_report
from relatent.systems.spectrogram.validation.pipeline import ValidationSettings, validate
from small_walkers import FIT

pytestmark = pytest.mark.usefixtures("one_thread")


class Page(HTMLParser):
    """Text and addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.words, self.outside, self.pictures = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "img":
            self.pictures.append(values["alt"])
        self.outside += [values[k] for k in ("src", "href") if not values.get(k, "data:").startswith(("data:", "#"))]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def validated(walkers, tmp_path_factory):
    """Without a network: nothing is downloaded."""

    def refuse(*_):
        raise AssertionError("a validator opened a connection")

    out = tmp_path_factory.mktemp("validated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        settings = ValidationSettings(walkers / "real", walkers / "generated", out, FIT, 0.34)
        result, pictures = validate(settings)
        write_report(result, pictures, out)
    return settings, result, pictures


def test_what_is_written(validated):
    settings, result, _ = validated
    assert json.loads((settings.output_dir / "validation.json").read_text()) == result
    assert result["simulated"] is True
    assert result["split"] == "by recording"
    assert result["counts"] == {"training": 24, "held_out": 12, "generated": 36, "baseline": 60}
    assert result["judge"]["holds"]
    names = {path.name for path in settings.output_dir.iterdir()}
    trained = {
        f"{name}.{kind}" for name in ("classifier", "shuffled_control", "metric") for kind in ("json", "safetensors")
    }
    assert names == {"validation.json", "report.html", *trained}


def test_the_scores(validated):
    scores = {score["name"]: score for score in validated[1]["scores"]}
    assert scores["recognition.accuracy"]["target"] == 0.8
    assert scores["recognition.accuracy"]["source"] == "original"
    assert scores["recognition.accuracy"]["holds"] is True
    assert scores["frechet"]["target"] == 50
    assert "not comparable" in scores["frechet"]["note"]
    assert scores["inception_like"]["target"] == 2  # the original's pipeline had no such score
    assert 1 <= scores["inception_like"]["value"] <= 3
    assert scores["drawn_marks"] | {"value": 0, "holds": True} == scores["drawn_marks"]
    assert scores["diversity_ratio"]["real"] == 1.0
    assert scores["diversity_ratio"]["baseline"] < 0.6 < scores["diversity_ratio"]["value"]
    spectrum = scores["statistics.spectrum_distance"]
    assert spectrum["baseline"] > 3 * max(spectrum["value"], spectrum["real"])
    assert scores["nearest.copies"]["value"] == 0
    for score in scores.values():
        assert {"value", "real", "baseline", "target", "holds", "source"} <= set(score)


def test_the_page(validated):
    settings, result, _ = validated
    page = Page((settings.output_dir / "report.html").read_text(encoding="utf-8"))
    assert page.outside == []
    assert "Validation of 36 generated spectrograms of 3 users" in page.text
    assert "The real spectrograms are simulated" in page.text
    assert "The classifier is a judge" in page.text
    for score in result["scores"]:
        assert score["label"] in page.text
    assert sum("spectrograms of ID_2" in alt for alt in page.pictures) == 2
    assert "No generated picture is a copy" in page.text
    assert "No mark is drawn" in page.text
    assert "FID" not in page.text


def test_training_pictures_as_generated_ones_are_refused(walkers, tmp_path):
    """Before anything is trained."""
    out = tmp_path / "out"
    shutil.copytree(walkers / "real", tmp_path / "real")
    with pytest.raises(UsageError, match="must not judge"):
        validate(ValidationSettings(walkers / "real", tmp_path / "real", out, FIT, 0.34))
    (tmp_path / "real" / "spectrograms.json").unlink()
    for path in (tmp_path / "real").glob("*/*.png"):
        path.rename(path.with_name("sample_" + path.name))
    with pytest.raises(UsageError, match="very pixels"):
        validate(ValidationSettings(walkers / "real", tmp_path / "real", out, FIT, 0.34))
    assert not out.exists()


def test_copies_and_numbers_of_users_are_seen(validated, walkers, tmp_path):
    """Users 1 and 3 alone, a number in each picture of user 3, one picture of user 1 a training picture with noise."""
    settings, _, pictures = validated
    generated, out = tmp_path / "generated", tmp_path / "out"
    shutil.copytree(settings.output_dir, out)
    shutil.copytree(walkers / "generated", generated)
    shutil.rmtree(generated / "ID_2")
    for path in (generated / "ID_3").iterdir():
        with Image.open(path) as picture:
            ImageDraw.Draw(picture).text((2, 0), "3", (255, 255, 255))
            picture.save(path)
    with Image.open(pictures.training.paths[0]) as picture:
        noisy = np.array(picture) + np.random.default_rng(0).integers(-3, 4, (32, 32, 3))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(generated / "ID_1" / "sample_0000.png")
    settings = ValidationSettings(walkers / "real", generated, out, FIT, 0.34)
    result, pictures = validate(settings)
    assert {mark["user"] for mark in result["drawn_marks"]} == {"ID_3"}
    nearest = result["sets"]["generated"]["nearest"]
    assert nearest["copied"] == [["ID_1/sample_0000.png", pictures.training.names[0]]]
    assert result["users"] == ["ID_1", "ID_3"]
    assert result["counts"]["held_out"] == 8
    failing = {score["name"] for score in result["scores"] if score["holds"] is False}
    assert {"drawn_marks", "nearest.copies"} <= failing
    page = Page(write_report(result, pictures, out).read_text(encoding="utf-8"))
    assert "Marks are drawn into the pictures of ID_3" in page.text
    assert any("ID_1/sample_0000.png beside" in alt for alt in page.pictures)


def test_folders_that_do_not_fit(walkers, tmp_path):
    with pytest.raises(SpectrogramError, match="no generated pictures"):
        validate(ValidationSettings(walkers / "real", tmp_path, tmp_path / "out", FIT))
    (tmp_path / "ID_9").mkdir()
    shutil.copy(next((walkers / "generated/ID_1").iterdir()), tmp_path / "ID_9/sample_0000.png")
    with pytest.raises(UsageError, match="ID_9, beyond --num_users 3"):
        validate(ValidationSettings(walkers / "real", tmp_path, tmp_path / "out", FIT))
    (tmp_path / "ID_9/sample_0000.png").write_bytes(b"no picture")
    with pytest.raises(SpectrogramError, match=r"sample_0000\.png"):
        validate(ValidationSettings(walkers / "real", tmp_path, tmp_path / "out", FIT))


def test_charts():
    found = chart("a", {"one": ([1, 10, 100], [0.0, 5.0, 10.0])}, log_x=True)
    points = [tuple(map(float, point.split(","))) for point in found.lines["one"].split()]
    assert points[1] == ((points[0][0] + points[2][0]) / 2, (points[0][1] + points[2][1]) / 2)
    assert points[0][1] > points[2][1]
    assert [text for _, text in found.x_ticks] == ["1", "2", "4", "8", "16", "32", "64"]
    assert [text for _, text in found.y_ticks] == ["0", "2", "4", "6", "8", "10"]
    small = confusion("b", [[3, 1], [0, 0]])
    assert small.cells == [(0, 0, 0.75), (0, 1, 0.25)]
    assert (small.ticks, small.written) == ([0, 1], True)
    assert confusion("c", np.eye(13)).ticks == [0, 5, 10]
