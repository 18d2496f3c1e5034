"""The subcommand spectrogram validate."""

import json
import shutil

import pytest
from command_line import strict
from relatent.cli.main import main
from small_walkers import write_walkers

OPTIONS = ["--resolution", "32", "--epochs", "6", "--batch_size", "8", "--held-out", "0.34"]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def walkers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walkers")
    write_walkers(folder / "real")
    write_walkers(folder / "generated", recorded=False)
    return folder


def arguments(folder, out, generated="generated"):
    folders = ["--data_dir", folder / "real", "--generated_dir", folder / generated, "--output_dir", out]
    return ["spectrogram", "validate", *map(str, folders), *OPTIONS]


def test_validate(walkers, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*arguments(walkers, out), "--json"]) == 0
    output = capsys.readouterr()
    found = strict(output.out)
    written = json.loads((out / "validation.json").read_text())
    assert found["scores"] == written["scores"]
    assert found["judge"]["accuracy"] > 0.8
    assert found["simulated"] is True
    assert found["report"] == str(out / "report.html")
    assert "classifier: epoch 6 of 6" in output.err
    assert main(arguments(walkers, out)) == 0  # the validators are there: nothing is trained
    output = capsys.readouterr()
    assert "epoch" not in output.err
    assert "The real spectrograms are simulated." in output.out
    assert output.out.count(" holds\n") >= 6
    again = json.loads((out / "validation.json").read_text())
    assert again["scores"] == written["scores"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--resolution", "40"], "--resolution is 40; give a multiple of 16"),
        (["--epochs", "0"], "--epochs is 0"),
        (["--num_users", "9"], "ID_4 has no picture"),
        (["--generated_dir", "nowhere"], "nowhere holds no generated pictures"),
        (["--data_dir", "nowhere"], "nowhere"),
    ],
)
def test_arguments_that_do_not_fit(walkers, tmp_path, capsys, change, message):
    assert main([*arguments(walkers, tmp_path), *change]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error


def test_what_was_trained_on_is_not_judged(walkers, tmp_path, capsys):
    shutil.copytree(walkers / "real", tmp_path / "own")
    assert main([*arguments(walkers, tmp_path / "out", tmp_path / "own"), "--epochs", "1"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "a validator must not judge what it was trained on" in error
