"""The benchmark of repeated passes, run whole on a small scale."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from relatent import load_autoencoder
from relatent.benchmarks.bench_loop import load_targets
from relatent.benchmarks.research import roundtrip
from relatent.benchmarks.research.comparison_grid import most_detailed_square
from relatent.benchmarks.results import replace_table, write_result


def test_optimised_passes_lose_less(tmp_path, monkeypatch, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("above\n<!-- roundtrip -->\nnothing yet\n<!-- /roundtrip -->\nbelow\n")
    monkeypatch.setattr(roundtrip, "write_result", partial(write_result, folder=tmp_path))
    monkeypatch.setattr(roundtrip, "replace_table", partial(replace_table, readme=readme))
    picture = tmp_path / "strip.png"
    given = ["--size", "64", "--limit", "1", "--cycles", "3", "--presets", "fast", "--device", "cpu", "--picture"]
    assert roundtrip.main([*given, str(picture)]) == 0

    (path,) = tmp_path.glob("roundtrip-*.json")
    content = json.loads(path.read_text())
    assert content["presets"]["fast"]["iterations"] > 0
    plain, fast = content["results"]["tiny"]
    assert (plain["method"], fast["method"]) == (roundtrip.ENCODER, "fast")
    assert all(ours > theirs for ours, theirs in zip(fast["psnr_db"], plain["psnr_db"], strict=True))
    assert 0 < fast["lost_db"] < plain["lost_db"]
    for row in (plain, fast):
        assert row["lost_db"] == pytest.approx(row["psnr_db"][0] - row["psnr_db"][2], abs=0.011)
        assert row["seconds_per_cycle"] > 0
    table = roundtrip.table(content["results"])
    assert table in capsys.readouterr().out
    assert readme.read_text() == f"above\n<!-- roundtrip -->\n{table}\n<!-- /roundtrip -->\nbelow\n"
    assert f"| tiny | fast | {fast['psnr_db'][0]:.2f} dB |" in table

    # The encoder's second cycle, computed by hand.
    autoencoder = load_autoencoder("tiny", device="cpu")
    (target,) = load_targets(None, 64, 1, torch.device("cpu"))
    current = target
    with torch.no_grad():
        for _ in range(2):
            image = autoencoder.decode(autoencoder.encode(current)).clamp(-1, 1)
            current = ((image + 1) * 127.5).round() / 127.5 - 1
    error = (current - target).square().mean().item()
    assert plain["psnr_db"][1] == pytest.approx(10 * np.log10(4 / error), abs=0.02)

    pixels = np.asarray(Image.open(picture))
    assert pixels.shape[1] > pixels.shape[0] > 400  # two rows of four panels
    assert len(np.unique(pixels)) > 30


def test_shown_cycles_end_with_the_last():
    assert roundtrip.shown_cycles(10) == [1, 2, 5, 10]
    assert roundtrip.shown_cycles(3) == [1, 2, 3]
    assert roundtrip.shown_cycles(1) == [1]


def test_the_detail_is_where_the_picture_is_busy():
    picture = np.full((64, 80, 3), 128, np.uint8)
    picture[40:56, 20:36] = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    rows, columns = most_detailed_square(picture, 16)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (40, 56, 20, 36)
