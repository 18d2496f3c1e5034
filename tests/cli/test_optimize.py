"""demo, optimize and resume, from their options to what they print and leave."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import relatent
import torch
from command_line import relatent_process, strict
from helpers import picture
from PIL import Image
from relatent.cli.main import main
from runs import only_line


def test_optimize_info_export(photographs, tmp_path, vae_folder):
    (photographs / "bad.png").write_text("no image")
    out = tmp_path / "out"
    done = relatent_process(
        "optimize", photographs, out, "--vae", vae_folder, "--size", 32, "--iterations", 4, "--device", "cpu",
        "--format", "hdf5", "--format", "png", "--format", "pt", "--json",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr  # one failed, the rest is written
    run = strict(done.stdout)
    assert run["counts"] == {"total": 5, "done": 4, "failed": 1}
    assert run["failures"][0]["source_path"] == "bad.png"
    assert run["schema"] == "relatent/1"
    assert run == strict((out / "run.json").read_text())
    assert {"load", "encode", "optimize", "write", "export", "total"} <= set(run["seconds"])
    assert run["hardware"]["name"]
    assert run["vae"]["weights_sha256"]
    assert "images/s" in done.stderr
    assert all(os.path.exists(path) for path in run["outputs"].values())

    info = relatent_process("info", out)
    assert info.returncode == 0
    assert "4 of 5 pictures" in info.stdout
    assert "train/first:" in info.stdout
    assert "bad.png: no image" in info.stdout
    assert strict(relatent_process("info", out, "--json").stdout) == run

    again = relatent_process("export", out, "--to", "pt", tmp_path / "elsewhere.pt", "--json")
    assert strict(again.stdout) == {"format": "pt", "path": str(tmp_path / "elsewhere.pt")}
    assert torch.load(tmp_path / "elsewhere.pt", weights_only=True)["metadata"]["total_samples"] == 4


def test_settings_from_a_file_and_options_that_win(photographs, tmp_path, vae_folder, capsys):
    config = tmp_path / "settings.toml"
    config.write_text('iterations = 9\nloss_function = "l1"\nrelative_learning_rate = 0.03\n')
    arguments = ["optimize", photographs, tmp_path / "out", "--vae", vae_folder, "--size", "32", "--limit", "1"]
    options = ["--config", config, "--iterations", "2", "--no-images", "--json"]
    assert main([str(word) for word in arguments + options]) == 0
    run = strict(capsys.readouterr().out)
    assert run["config"]["iterations"] == 2
    assert run["config"]["loss_function"] == "l1"
    assert run["config"]["relative_learning_rate"] == 0.03
    assert run["counts"]["total"] == 3
    assert run["settings"]["preset"] is None

    config.write_text('betas = [0.5, 0.6]\nname = "x"\n')
    arguments[2], options = tmp_path / "preset", [*options, "--preset", "original", "--target-psnr", "40"]
    assert main([str(word) for word in arguments + options]) == 2
    assert "unknown setting name" in capsys.readouterr().err
    config.write_text("betas = [0.5, 0.6]\n")
    assert main([str(word) for word in arguments + options]) == 0
    run = strict(capsys.readouterr().out)
    expected = relatent.preset("original", betas=(0.5, 0.6), iterations=2, target_psnr=40.0)
    assert run["config"] == expected.to_dict()
    assert run["settings"]["preset"] == "original"


def test_flip_is_recorded_and_mentioned(photographs, tmp_path, vae_folder, capsys):
    arguments = ["optimize", photographs, tmp_path / "out", "--vae", vae_folder, "--size", "32", "--limit", "1"]
    assert main([*map(str, arguments), "--iterations", "2", "--flip"]) == 0
    summary = capsys.readouterr().out
    run = strict((tmp_path / "out" / "run.json").read_text())
    assert run["settings"]["flip"] is True
    assert run["counts"] == {"total": 3, "done": 3, "failed": 0}
    after = run["statistics_flipped"]["final_psnr"]["mean"]
    assert f"→ {after:.2f} dB" in next(line for line in summary.splitlines() if line.startswith("mirrored too"))
    assert main(["info", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count("mirrored too") == 1


def test_demo(tmp_path):
    done = relatent_process("demo", tmp_path / "out", "--preset", "fast", "--iterations", 2)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 pictures, done, vae tiny" in done.stdout
    assert "PSNR before (dB)" in done.stdout
    assert (tmp_path / "out" / "dataset.h5").exists()
    assert (tmp_path / "out" / "png" / "overview.png").exists()
    assert (tmp_path / "out" / "dataset.pt").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_run_with_130_and_keep_what_is_finished(tmp_path, vae_folder, number):
    folder = tmp_path / "in"
    folder.mkdir()
    for seed in range(40):
        Image.fromarray(picture(32, 32, seed)).save(folder / f"{seed:02d}.png")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "relatent", "optimize", folder, out, "--vae", vae_folder, "--size", "32"]
    options = ["--iterations", "400", "--batch-size", "2", "--device", "cpu"]
    process = subprocess.Popen(
        [str(word) for word in command + options],
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts background jobs with SIGINT ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.time() + 120
    while not (out / "run.json").exists() and time.time() < deadline:
        time.sleep(0.05)
    time.sleep(3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    run = strict((out / "run.json").read_text())
    assert run["status"] == "interrupted"
    assert run["counts"]["done"] < 40
    if run["counts"]["done"]:
        assert main(["export", str(out), "--to", "pt"]) == 0


def test_a_run_that_failures_stop_says_how_to_go_on(photographs, tmp_path, vae_folder, capfd):
    (photographs / "bad.png").write_text("no image")
    out = tmp_path / "out"
    arguments = ["optimize", photographs, out, "--vae", vae_folder, "--size", "32", "--iterations", "1"]
    expected = f"; what was finished is kept, and `relatent resume {out}` goes on"
    for command in ([*arguments, "--max-failures", "0"], ["resume", out, "--retry-failed", "--max-failures", "0"]):
        assert main([*map(str, command)]) == 1
        line = only_line(capfd.readouterr().err)
        assert line.startswith("relatent: 1 pictures failed, more than --max-failures 0")
        assert line.endswith(expected)
        assert line.count("relatent resume") == 1
    assert main(["resume", str(out), "--batch-size", "many"]) == 2
    assert "--batch-size: expected a whole number or auto, found 'many'" in capfd.readouterr().err
    (photographs / "bad.png").write_bytes((photographs / "train" / "first.png").read_bytes())
    assert main(["resume", str(out), "--retry-failed", "--batch-size", "3", "--json"]) == 0
    record = json.loads(capfd.readouterr().out)
    assert (record["batch_size"], record["counts"]["done"]) == (3, 5)
