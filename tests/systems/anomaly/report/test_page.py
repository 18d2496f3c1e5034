"""The page of a set of maps."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from anomaly_maps import LevelMapper, make_maps
from PIL import Image
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.data.volume import Volume
from relatent.systems.anomaly.maps.reader import MapReader
from relatent.systems.anomaly.maps.run import write_maps
from relatent.systems.anomaly.report import page
from relatent.systems.anomaly.report.page import flat, picks, write_report

EMPTY = {"meta", "img", "br", "rect"}  # elements without an end
HOSTILE = '<script>alert("x")</script>&amp;\'{{ 7 * 7 }}'


class Page(HTMLParser):
    """Text, pictures and table rows of a page; fails on elements that do not nest."""

    def __init__(self, path):
        super().__init__()
        self.open, self.pictures, self.words, self.outside, self.rows, self.tags = [], {}, [], [], [], []
        self.bars = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        for name in ("src", "href", "srcset"):
            if name in attributes and not attributes[name].startswith(("data:", "#")):
                self.outside.append(attributes[name])
        if tag == "img":
            self.pictures[attributes["alt"]] = Image.open(io.BytesIO(base64.b64decode(attributes["src"].split(",")[1])))
        if tag == "rect":
            self.bars.append((attributes["class"], float(attributes["x"]), float(attributes["height"])))
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open:
            self.rows[-1][-1] += data
        if not {"style", "script"} & set(self.open):
            self.words.append(data)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return make_maps(tmp_path_factory.mktemp("page"), seed=1, count=6)


def test_the_page_shows_every_volume(maps):
    path = write_report(maps)
    found = Page(path)
    assert path == maps / "report.html"
    assert found.outside == []
    assert "Anomaly maps of 6 synthetic volumes, method: error" in found.text
    assert "All volumes are synthetic" in found.text
    with MapReader(maps) as reader:
        order = np.argsort(-reader.scores["mean_error"])
        scores = dict(zip(reader.names, reader.scores["max_error"], strict=True))
        names, labels = [reader.names[i] for i in order], [reader.labels[i] for i in order]
    rows = [row for row in found.rows if row and row[0] in names]
    assert [row[0] for row in rows] == names
    assert [row[2] for row in rows] == [("normal", "abnormal")[label] for label in labels]
    assert [float(row[3]) for row in rows] == pytest.approx([scores[name] for name in names], rel=1e-3)
    for name in names:
        assert found.pictures[f"slices of {name}: volume, map over it, reconstruction"].size == (384, 384)
        assert not getattr(found.pictures[f"projection of {name} from the front"], "is_animated", False)
        assert found.pictures[f"rotating projection of {name}"].n_frames == 36
    assert ["model_sha256", "0" * 64] in found.rows
    assert found.tags.count("script") == 1
    assert path.stat().st_size < 6 * 300_000


def test_another_score_orders_the_volumes(maps):
    found = Page(write_report(maps / "maps.h5", "max_error"))
    with MapReader(maps) as reader:
        first = reader.names[int(reader.scores["max_error"].argmax())]
    assert next(row for row in found.rows if row)[0] == first
    with pytest.raises(UsageError, match="'nothing' is none of the maps' scores"):
        write_report(maps, "nothing")


def test_bars_stand_where_their_scores_are(tmp_path):
    values = [0.1, 0.1, 0.1, 0.9]  # the lowest and the highest score: the first and the last of eight bins
    volumes = [Volume(f"{i}", "p", int(i == 3), np.full((16,) * 3, v, np.float32)) for i, v in enumerate(values)]
    write_maps(tmp_path / "maps", volumes, LevelMapper(0.0))
    assert Page(write_report(tmp_path / "maps")).bars == 2 * [("normal", 0, 88), ("abnormal", 262.5, 29.33)]


def test_names_are_escaped(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    name = HOSTILE.replace("/", "∕")  # a name's own check refuses slashes
    volumes = [Volume(name, HOSTILE, 1, rng.integers(0, 2, (16, 16, 16), np.uint8))]

    class Hostile(LevelMapper):
        def identity(self):
            return {HOSTILE: {"model": HOSTILE}, "model_sha256": "1" * 64}

    write_maps(tmp_path / "maps", volumes, Hostile())
    path = write_report(tmp_path / "maps")
    found = Page(path)
    assert found.tags.count("script") == 1
    assert "alert(" not in re.search(r"<script>.*?</script>", path.read_text(), re.DOTALL)[0]
    assert [name, HOSTILE, "abnormal"] in [row[:3] for row in found.rows]
    assert [f"{HOSTILE}.model", HOSTILE] in found.rows
    assert f"rotating projection of {name}" in found.pictures
    assert "synthetic" not in found.text


def test_labels_that_are_not_known(tmp_path):
    rng = np.random.default_rng(0)
    volumes = [Volume(f"{i}", "p", None, rng.integers(0, 2, (16, 16, 16), np.uint8)) for i in range(2)]
    write_maps(tmp_path / "maps", volumes, LevelMapper())
    found = Page(write_report(tmp_path / "maps"))
    assert [row[2] for row in found.rows if len(row) > 2] == ["no label", "no label"]
    assert "abnormal" not in found.text


def test_of_many_volumes_the_highest_the_median_and_the_lowest_have_pictures(maps, monkeypatch):
    assert [(title, len(group)) for title, group in picks(list(range(60)))] == [
        ("All volumes, the highest score first", 60)
    ]
    groups = dict(picks(list(range(100))))
    assert groups == {
        "Highest 20": list(range(20)),
        "Around the median 20": list(range(40, 60)),
        "Lowest 20": list(range(80, 100)),
    }
    monkeypatch.setattr(page, "SHOWN", 3)
    monkeypatch.setattr(page, "LISTED", 4)
    found = Page(write_report(maps))
    assert len(found.pictures) == 1 + 3 * 3  # the legend, and three volumes
    assert "The 4 with the highest mean_error of 6." in found.text
    assert len([row for row in found.rows if len(row) > 2]) == 4


def test_nested_values_are_flat():
    values = {"a": {"b": 1, "c": {}}, "d": [1, 2]}
    assert list(flat(values)) == [("a.b", 1), ("a.c", {}), ("d", [1, 2])]
    assert json.dumps(values)
