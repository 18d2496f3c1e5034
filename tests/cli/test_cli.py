"""The command as a user runs it: a process, its exit status, its two streams."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import relatent
import torch
from helpers import picture
from PIL import Image
from relatent.cli.main import main


def relatent_process(*arguments, **options):
    command = [sys.executable, "-m", "relatent", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def strict(text):
    """One JSON object, without NaN or infinity."""

    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def test_help_and_import_load_nothing_heavy():
    code = (
        "import sys, relatent; from relatent.cli.main import build_parser; build_parser().format_help(); "
        "heavy = {'torch', 'numpy', 'diffusers', 'h5py', 'PIL', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    done = relatent_process("--help")
    assert done.returncode == 0
    for command in ("demo", "optimize", "info", "report", "verify", "export", "export-onnx", "models", "doctor"):
        assert command in done.stdout
    assert "--preset fast|balanced|best|original" in relatent_process("optimize", "--help").stdout


def test_every_public_name_can_be_imported():
    for name in relatent.__all__:
        assert getattr(relatent, name) is not None
    assert set(relatent.__all__) <= set(dir(relatent))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = relatent.nothing


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["optimize", "{in}", "{out}", "--vae", "nothing"], "unknown autoencoder 'nothing'"),
        (["optimize", "{in}", "{out}", "--vae", "tiny", "--loss", "mse + x"], "cannot read 'x'"),
        (["optimize", "{in}", "{out}", "--vae", "tiny", "--batch-size", "many"], "whole number or auto"),
        (["optimize", "{in}", "{out}", "--vae", "tiny", "--iterations", "0"], "at least 1"),
        (["optimize", "{in}", "{out}", "--vae", "tiny", "--device", "cuda:77"], "use auto or cpu"),
        (["optimize", "{in}", "{out}", "--vae", "tiny", "--config", "absent.toml"], "cannot read the configuration"),
        (["optimize", "{in}", "{out}", "--vae", "tiny", "--format", "zip"], "unknown format 'zip'"),
        (["optimize", "absent", "{out}", "--vae", "tiny"], "no such image"),
        (["optimize", "{in}", "{out}", "--vae", "tiny", "--preset", "slow"], "expected one of fast, balanced"),
        (
            ["optimize", "{in}", "{out}", "--vae", "tiny", "--target-psnr", "0"],
            "target_psnr: expected a number above 0",
        ),
        (["demo", "{out}", "--iterations", "0"], "at least 1"),
        (["demo", "{out}", "--preset", "slow"], "expected one of fast, balanced"),
        (["info", "absent"], "holds no run"),
        (["export", "absent", "--to", "pt"], "holds no run"),
        (["export", "absent", "--to", "zip"], "unknown format 'zip'"),
        (["export-onnx", "--vae", "tiny", "a.bin"], "ends in .onnx"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(photographs, tmp_path, capsys, arguments, words):
    out = tmp_path / "out"
    given = [argument.replace("{in}", str(photographs)).replace("{out}", str(out)) for argument in arguments]
    assert main(given) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert words in streams.err
    assert streams.err.count("\n") == 1
    assert not out.exists()


def test_argparse_errors_are_status_2():
    assert relatent_process("optimize").returncode == 2
    assert relatent_process("nothing").returncode == 2


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


def test_models_and_doctor(capsys):
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert "stable-diffusion-v1-5/stable-diffusion-v1-5" in text
    assert main(["models", "--json"]) == 0
    assert strict(capsys.readouterr().out)["taef2"]["latent_channels"] == 32
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert torch.__version__.split("+")[0] in text
    assert main(["doctor", "--json"]) == 0
    paths = strict(capsys.readouterr().out)["paths"]
    assert paths["CUDA"]["on"] == torch.cuda.is_available()
    assert paths["torchvision"] == {"on": True, "why": "matches torch"}


def test_export_onnx(tmp_path, vae_folder, capsys):
    pytest.importorskip("onnxruntime")
    assert main(["export-onnx", "--vae", str(vae_folder), "--size", "32", str(tmp_path / "a.onnx")]) == 0
    text = capsys.readouterr().out
    assert "decoder: " in text
    assert "encoder: " in text
    assert (tmp_path / "a-encoder.onnx").exists()


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


def test_bsds500_helpers(bsds500, tmp_path, monkeypatch):
    monkeypatch.setenv("BSDS500_PATH", str(bsds500))
    found = relatent.optimize_bsds500_test(
        tmp_path / "trial", max_images=1, vae="tiny", size=64, iterations=3, preset="original"
    )
    assert json.loads((tmp_path / "trial" / "run.json").read_text())["config"]["betas"] == [0.9, 0.999]
    assert set(found) == {"pytorch", "png"}
    assert len(relatent.load_optimized_dataset(found["pytorch"])) == 3
    assert len(list(found["png"].glob("*/*/metrics.json"))) == 3
    found = relatent.optimize_bsds500_full(
        tmp_path / "full", iterations=1, learning_rate=0.1, create_png=False, vae="tiny", size=32
    )
    assert set(found) == {"pytorch"}
    assert len(relatent.load_optimized_dataset(found["pytorch"])) == 24
