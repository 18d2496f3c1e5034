"""The subcommand spectrogram demo, with a demo of another size in place of its own."""

import functools

import pytest
from command_line import strict
from relatent.cli.main import main
from relatent.systems.spectrogram import demo

pytestmark = pytest.mark.usefixtures("one_thread")


def test_demo(tmp_path, capsys, monkeypatch):
    tiny = demo.DemoSettings(
        2, 3, 4, 32, 1, 1, 2, 1.5, 1,
        {"block_out_channels": (8, 8), "batch_size": 8},
        {"block_out_channels": (16,), "attention": (True,), "cross_attention_dim": 16, "batch_size": 8},
    )  # fmt: skip
    monkeypatch.setattr(demo, "run_demo", functools.partial(demo.run_demo, settings=tiny))
    assert main(["spectrogram", "demo", str(tmp_path / "out"), "--json"]) == 0
    output = capsys.readouterr()
    assert strict(output.out)["report"] == str(tmp_path / "out/validation/report.html")
    assert "== diffusion model" in output.err
    assert main(["spectrogram", "demo", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "2 simulated walkers, 12 spectrograms of 32² each" in text
    assert "classified as their user: " in text
    assert "report.html" in text


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "spectrograms" / "ID_1").mkdir(parents=True)
    assert main(["spectrogram", "demo", str(tmp_path)]) == 2
    assert "holds other spectrograms" in capsys.readouterr().err.splitlines()[-1]
