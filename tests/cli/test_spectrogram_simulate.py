"""The subcommand spectrogram simulate."""

import builtins

import pytest
from command_line import strict
from relatent.cli.main import main
from relatent.systems.spectrogram.data.spectrogram_folder import read_spectrograms

SMALL = ["--users", "2", "--recordings", "2", "--windows", "1", "--side", "16", "--seed", "3"]


def test_a_folder_is_made_and_found_again(tmp_path, capsys):
    assert main(["spectrogram", "simulate", str(tmp_path), *SMALL, "--json"]) == 0
    output = capsys.readouterr()
    found = strict(output.out)
    assert found.pop("seconds") > 0
    assert found == {
        "folder": str(tmp_path),
        "simulated": True,
        "users": 2,
        "recordings": 2,
        "windows": 1,
        "side": 16,
        "seed": 3,
        "model": 1,
        "pictures": 4,
        "made": 4,
    }
    assert "2 of 2 users" in output.err
    assert len(read_spectrograms(tmp_path, num_users=2)) == 4
    assert main(["spectrogram", "simulate", str(tmp_path), *SMALL]) == 0
    text = capsys.readouterr().out
    assert "4 simulated spectrograms of 2 users" in text
    assert "0 of them made now" in text


def test_the_defaults_are_31_users_at_128():
    from relatent.cli.parser import build_parser

    options = build_parser().parse_args(["spectrogram", "simulate", "out"])
    assert (options.users, options.recordings, options.windows, options.side, options.seed) == (31, 5, 20, 128, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--users", "0"], "expected 1 or more"),
        (["--side", "4"], "expected 8 to 1024 pixels"),
        (["--seed", "-1"], "seed"),
    ],
)
def test_arguments_that_do_not_fit(tmp_path, capsys, arguments, message):
    assert main(["spectrogram", "simulate", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_missing_package_is_named_with_what_installs_it(tmp_path, capsys, monkeypatch):
    ordinary = builtins.__import__

    def without_scipy(name, *rest):
        if name.endswith("data.simulate"):
            raise ModuleNotFoundError("No module named 'scipy'", name="scipy")
        return ordinary(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    assert main(["spectrogram", "simulate", str(tmp_path), *SMALL]) == 2
    assert "pip install 'relatent[spectrogram]'" in capsys.readouterr().err
