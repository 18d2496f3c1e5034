"""spectrogram train-vae and check, from the command to the folder, and on to relatent optimize."""

import json
from pathlib import Path

import pytest
from command_line import strict
from relatent.cli.main import main
from relatent.cli.spectrogram.train_vae import OPTIONS
from relatent.systems.spectrogram.vae.settings import SETTING_NAMES
from vae_spectrograms import write_spectrograms

SMALL = [
    "--resolution",
    "32",
    "--num_users",
    "2",
    "--block_out_channels",
    "8",
    "8",
    "--batch_size",
    "4",
    "--epochs",
    "1",
    "--learning_rate",
    "3e-3",
    "--device",
    "cpu",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_spectrograms(tmp_path_factory.mktemp("data") / "spectrograms")


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "out"
    assert main(["spectrogram", "train-vae", "--data_dir", str(data), "--output_dir", str(out), *SMALL]) == 0
    return out


def test_every_setting_is_an_option():
    assert tuple(OPTIONS) == SETTING_NAMES


def test_training_is_one_object_and_its_progress_is_on_stderr(data, tmp_path, capsys):
    out = tmp_path / "out"
    words = [
        "--data-dir",
        data,
        "--output-dir",
        out,
        *(word.replace("_", "-") for word in SMALL),
        "--use-ema",
        "--json",
    ]
    command = ["spectrogram", "train-vae", "--recipe", "memory", *map(str, words)]
    assert main(command) == 0
    told = capsys.readouterr()
    found = strict(told.out)
    assert found["output_dir"] == str(out)
    assert found["settings"]["use_ema"]
    assert found["settings"]["mixed_precision"] == "bf16"  # the recipe's
    assert found["settings"]["gradient_accumulation_steps"] == 4
    assert found["settings"]["batch_size"] == 4
    assert found["steps"] == 1
    assert "dB" in told.err
    assert json.loads((out / "vae_training.json").read_text())["psnr"] == found["psnr"]
    assert main(command) == 0  # finished: the same again
    told = capsys.readouterr()
    assert strict(told.out) == found
    assert "going on at step 1" in told.err


def test_what_is_said(data, model, capsys):
    assert main(["spectrogram", "train-vae", "--data_dir", str(data), "--output_dir", str(model), *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "simulated held-out recordings" in lines[0]
    assert "dB" in lines[1]
    assert "scaling factor" in lines[2]


def test_a_process_that_is_not_the_main_one_prints_nothing(data, model, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert main(["spectrogram", "train-vae", "--data_dir", str(data), "--output_dir", str(model), *SMALL]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--learning_rate", "0"], "learning_rate"),
        (["--resolution", "31"], "multiple of 2"),
        (["--num_users", "3"], "ID_3"),
        (["--batch_size", "32"], "smaller batch_size"),
        (["--held_out", "1.5"], "held_out"),
    ],
)
def test_what_is_refused_in_one_line(data, tmp_path, capsys, words, message):
    out = tmp_path / "out"
    assert main(["spectrogram", "train-vae", "--data_dir", str(data), "--output_dir", str(out), *SMALL, *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert message in line
    assert not out.exists()


def test_check(data, model, capsys):
    assert main(["spectrogram", "check", "--model_path", str(model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["holds"] * 4
    assert main(["spectrogram", "check", "--model-path", str(model / "vae"), "--data-dir", str(data), "--json"]) == 1
    found = strict(capsys.readouterr().out)
    verdicts = {one["name"]: one["ok"] for one in found["checks"]}
    assert found["ok"] is False
    assert verdicts["PSNR"] is False  # one epoch of seconds
    assert verdicts["weights"]
    assert main(["spectrogram", "check", "--model_path", str(model / "none")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_optimize_takes_the_vae(data, model, tmp_path, capsys):
    """The latents that the engine finds decode to better spectrograms than the encoder's."""
    out = tmp_path / "out"
    command = ["optimize", str(data / "ID_1"), str(out), "--vae", str(model / "vae"), "--size", "32", "--limit", "3"]
    assert main([*command, "--iterations", "5", "--device", "cpu", "--json"]) == 0
    run = strict(capsys.readouterr().out)
    assert run["counts"]["done"] == 3
    record = json.loads((model / "vae_training.json").read_text())
    assert run["vae"]["scaling_factor"] == pytest.approx(record["scaling_factor"])
    assert run["vae"]["latent_channels"] == 4
    assert run["vae"]["downscale_factor"] == 2
    import h5py

    with h5py.File(Path(out) / "dataset.h5") as file:
        assert file["optimized_latents"].shape == (3, 4, 16, 16)
        assert (file["metrics/psnr_improvement"][:] > 0).all()
