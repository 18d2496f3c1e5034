"""What reads a run's folder: the export command's arguments in every order."""

import argparse

import pytest
import relatent
from command_line import relatent_process, strict
from relatent.cli.main import build_parser, main


@pytest.fixture(scope="module")
def out(tmp_path_factory, small_vae):
    """A run over one picture."""
    from helpers import picture
    from PIL import Image

    root = tmp_path_factory.mktemp("run")
    Image.fromarray(picture()).save(root / "first.png")
    relatent.optimize_directory(
        root / "first.png", root / "out", small_vae, size=32, config=relatent.preset(None, iterations=1)
    )
    return root / "out"


@pytest.mark.parametrize(
    "order",
    [
        "OUT --to pt",
        "--to pt OUT",
        "OUT DEST --to pt",
        "OUT --to pt DEST",
        "--to pt OUT DEST",
        "OUT --to pt --json DEST",
        "--to pt OUT --json DEST",
        "--to pt -- OUT DEST",
    ],
)
def test_export_takes_its_arguments_in_every_order(out, tmp_path, capsys, order):
    dest = tmp_path / "elsewhere.pt"
    expected = dest if "DEST" in order else out / "dataset.pt"
    expected.unlink(missing_ok=True)
    assert main(["export", *({"OUT": str(out), "DEST": str(dest)}.get(word, word) for word in order.split())]) == 0
    printed = capsys.readouterr().out
    assert (strict(printed)["path"] if "--json" in order else printed.strip()) == str(expected)
    assert expected.is_file()


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("--to pt", "the following arguments are required: OUT"),
        ("OUT DEST", "the following arguments are required: --to"),
        ("OUT DEST third --to pt", "unrecognized arguments: third"),
        ("OUT --to pt DEST third", "unrecognized arguments: third"),
        ("OUT --to pt --unknown DEST", "unrecognized arguments: --unknown"),
    ],
)
def test_export_refuses_what_it_does_not_know(capsys, order, words):
    with pytest.raises(SystemExit) as stopped:
        main(["export", *order.split()])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_export_takes_no_empty_dest_and_not_the_root(out, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["export", str(out), "--to", "pt", ""])
    assert stopped.value.code == 2
    assert "argument DEST: expected the path of a file or folder, found an empty text" in capsys.readouterr().err
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for dest, words in ((".", "is a folder"), ("..", "is a folder"), ("/", "is no place for pt")):
        assert main(["export", str(out), "--to", "pt", dest]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert main(["export", str(out), "--to", "webdataset", "."]) == 0
    assert (tmp_path / "here" / "relatent.json").is_file()


def test_usage_of_export_names_what_it_takes():
    usage = relatent_process("export", "--help").stdout.split("\n\n")[0].split()
    assert usage[-2:] == ["OUT", "[DEST]"]
    (commands,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    options = [action.option_strings[0] for action in commands.choices["export"]._actions if action.option_strings]
    assert [word.strip("[]") for word in usage if "-" in word] == options
