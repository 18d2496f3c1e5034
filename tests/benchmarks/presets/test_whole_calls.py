"""The benchmark of whole calls, on one generated photograph."""

import json

import numpy as np
import pytest
from PIL import Image
from relatent.benchmarks.presets import __main__ as presets


def test_measures_every_setting_and_writes_its_table(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "bsds500" / "val"
    folder.mkdir(parents=True)
    for other in ("train", "test"):
        (tmp_path / "bsds500" / other).mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(folder / "a.png")
    monkeypatch.setattr(presets, "SHORTENED", (1,))
    given = ["--bsds500", tmp_path / "bsds500", "--split", "val", "--size", "32", "--repeats", "1", "--device", "cpu"]
    presets.main([*map(str, given), "--out", str(tmp_path / "out")])
    (path,) = (tmp_path / "out").glob("presets-*.json")
    content = json.loads(path.read_text())
    rows = {row["settings"]: row for row in content["results"]["tiny"]}
    assert set(rows) == {"draft", "fast", "balanced", presets.EARLIER, "default, 1 iterations"}
    assert rows[presets.EARLIER]["ratio"] == 1
    assert all(row["least_db"] >= 0 for row in rows.values())
    assert rows["draft"]["gain_db"] < rows["fast"]["gain_db"] < rows["balanced"]["gain_db"]
    assert set(content["beaten_by"]["tiny"]) == {"draft", "fast", "balanced"}
    printed = capsys.readouterr().out
    assert "| tiny | `fast` | +" in printed
    assert printed.index("`draft`") < printed.index("`balanced`")


@pytest.mark.parametrize(
    ("seconds", "gain", "beaten"), [(1.2, 3.4, True), (1.4, 3.4, False), (1.2, 3.2, False), (0.5, 5.0, True)]
)
def test_what_is_off_the_front_is_named(seconds, gain, beaten):
    rows = [
        {"settings": "fast", "seconds": 1.0, "gain_db": 3.0},
        {"settings": "default, 3 iterations", "seconds": seconds, "gain_db": gain},
        {"settings": "balanced", "seconds": 1.0, "gain_db": 9.0},
    ]
    assert presets.beaten_by(rows, "fast") == (["default, 3 iterations"] if beaten else [])
