"""Scales of the guidance: table and plot by hand, and a whole small run that goes on."""

import json

import pytest
from PIL import Image
from relatent.benchmarks.spectrogram import guidance
from relatent.systems.spectrogram.diffusion.run import train_on_spectrograms
from small_walkers import write_walkers
from tiny_diffusion import TINY, tiny_vae

pytestmark = pytest.mark.usefixtures("one_thread")


def figures(accuracy, frechet, diversity):
    found = dict.fromkeys((path for _, path, _ in guidance.COLUMNS), 0.5)
    return found | {"recognition.accuracy": accuracy, "frechet": frechet, "diversity_ratio": diversity}


def judged(*own):
    sets = {"generated": figures(*own), "held_out": figures(0.96, 19, 1.0), "baseline": figures(0.285, 458, None)}
    return {"sets": sets, "simulated": True, "counts": {"generated": 310}}


def test_table_and_plot(tmp_path):
    scales = {"1": judged(0.7, 60, 0.95), "1.5": judged(0.85, 70, 0.8)}
    rows = guidance.table(scales).splitlines()
    assert rows[0].startswith("| simulated walkers, 310 samples a scale | classified as their user |")
    assert rows[2].startswith("| guidance 1 | 70.0% | 50.0% | 60.0 | 0.95 |")
    assert rows[3].startswith("| guidance 1.5 | 85.0% |")
    assert rows[4].startswith("| held-out real | 96.0% | 50.0% | 19.0 | 1.00 |")
    assert rows[5].startswith("| independent pixels | 28.5% | 50.0% | 458.0 | – |")
    guidance.plot(scales, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width > picture.height > 300


def test_a_small_run_goes_on(tmp_path, monkeypatch, capsys):
    data = write_walkers(tmp_path / "data")
    vae = tiny_vae(tmp_path / "vae")
    record = tmp_path / "vae/vae_training.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"num_users": 3, "held_out": 0.34}))
    train_on_spectrograms(data, vae, tmp_path / "model", "small", **{**TINY, "max_steps": 2})
    page = tmp_path / "page.md"
    page.write_text("<!-- spectrogram_guidance -->\n<!-- /spectrogram_guidance -->\n")
    monkeypatch.setattr(guidance, "PAGE", page)
    monkeypatch.setattr(guidance, "PLOT", tmp_path / "plot.png")
    words = [*map(str, (tmp_path / "model", data, tmp_path / "work")), "--out", str(tmp_path)]
    words += ["--samples_per_user", "2", "--steps", "2", "--epochs", "2", "--batch_size", "8", "--scales"]
    guidance.main([*words, "1"])
    guidance.main([*words, "2", "1"])
    output = capsys.readouterr().out
    assert output.count("classifier: epoch 2 of 2") == 1  # the validators are trained once
    assert output.count("judging real and generated pictures") == 2  # each scale is judged once
    (path,) = tmp_path.glob("spectrogram_guidance-*.json")
    scales = json.loads(path.read_text())["scales"]
    assert [*scales] == ["1", "2"]
    assert scales["1"]["counts"]["generated"] == 6
    assert scales["1"]["sets"]["held_out"] == scales["2"]["sets"]["held_out"]
    assert scales["1"]["sets"]["generated"] != scales["2"]["sets"]["generated"]
    assert guidance.table(scales) in page.read_text()
    assert (tmp_path / "plot.png").is_file()
