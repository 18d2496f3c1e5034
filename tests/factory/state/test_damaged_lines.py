"""Damaged lines of the plan and the ledger: one line that names the file, the line and the remedy, and nothing is changed."""

import json
import shutil

import pytest
from helpers import save_pictures
from relatent import optimize_directory, preset
from relatent.cli.main import main


@pytest.fixture(scope="module")
def made(tmp_path_factory, vae_folder):
    """Five pictures in two shards; one of the pictures fails."""
    root = tmp_path_factory.mktemp("made")
    save_pictures(root / "in", 4)
    (root / "in" / "broken.png").write_text("no picture")
    optimize_directory(
        root / "in", root / "out", vae_folder, config=preset(None, iterations=1), size=32, shard_size=3, device="cpu"
    )
    return root / "out"


@pytest.fixture
def out(made, tmp_path):
    return shutil.copytree(made, tmp_path / "out")


def replace_line(path, number, line):
    lines = path.read_text().splitlines()
    lines[number - 1] = line(json.loads(lines[number - 1])) if callable(line) else line
    path.write_text("\n".join(lines) + "\n")


def without(key):
    return lambda values: json.dumps({name: value for name, value in values.items() if name != key})


def changed(**changes):
    return lambda values: json.dumps(values | changes)


def contents(folder):
    # the lock's file holds the last process's number
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "run.lock"}


PLAN = [
    (1, "garbage", "no JSON, Expecting value at character 0"),
    (1, "[]", "expected an object, found list"),
    (1, without("total"), "it lacks total"),
    (1, changed(total=-5), "-5 pictures in shards of 3"),
    (1, changed(shard_size=0), "5 pictures in shards of 0"),
    (1, changed(segments=[{"rows": 5, "size": [32]}]), "size: expected width and height, found [32]"),
    (1, changed(segments=[{"rows": 4, "size": None}]), "its segments do not add up to 5 pictures"),
    (1, changed(segments=[{"size": None}]), "it lacks rows"),
    (5, "garbage", "no JSON, Expecting value at character 0"),
    (5, "", "no JSON"),
    (5, "[" * 100_000, "no JSON of ours, nested too deeply"),
    (3, '"text"', "expected an object, found str"),
    (3, without("relative"), "it lacks relative"),
    (3, changed(mtime_ns="now"), "mtime_ns: expected int, found 'now'"),
    (6, changed(mask={"path": "a.png"}), "it lacks bytes"),
]


@pytest.mark.parametrize(("number", "line", "what"), PLAN)
def test_a_damaged_line_of_the_plan_is_named(out, capsys, number, line, what):
    replace_line(out / "plan.jsonl", number, line)
    before = contents(out)
    remedy = "; restore it from a copy; without it the run can neither go on nor be repaired\n"
    for arguments in (["resume", str(out)], ["export", str(out), "--to", "safetensors"]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"relatent: {out / 'plan.jsonl'} is damaged in line {number}: {what}")
        assert error.endswith(remedy)
        assert error.count("\n") == 1
    assert contents(out) == before
    assert main(["verify", str(out)]) == 1
    (found,) = (text for text in capsys.readouterr().out.splitlines() if "plan.jsonl" in text)
    assert f"is damaged in line {number}: {what}" in found
    assert found.count("restore it from a copy") == 1


def line_of(out, kind):
    lines = (out / "ledger.jsonl").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if json.loads(line)["kind"] == kind)


LEDGER = [
    ("shard", "garbage", "no JSON, Expecting value at character 0"),
    ("shard", "[]", "expected an object, found list"),
    ("shard", '{"kind":"shard"}', "it lacks number"),
    ("shard", '{"number":0}', "it lacks kind"),
    ("shard", changed(kind=["shard"]), "kind: expected str, found ['shard']"),
    ("shard", changed(kind="feast"), "unknown kind 'feast'"),
    ("shard", changed(number="0"), "number: expected int, found '0'"),
    ("shard", changed(images=-1), "images: expected a whole number from 0, found -1"),
    ("shard", changed(file=7), "file: expected str or null, found 7"),
    ("shard", changed(whole=1), "whole: expected bool, found 1"),
    ("failure", without("reason"), "it lacks reason"),
    ("failure", changed(shard=True), "shard: expected int, found True"),
    ("export", without("format"), "it lacks format"),
    ("export", changed(path=None), "path: expected str, found None"),
]


@pytest.mark.parametrize(("kind", "line", "what"), LEDGER)
def test_a_damaged_line_of_the_ledger_is_named(out, capsys, kind, line, what):
    number = line_of(out, kind)
    replace_line(out / "ledger.jsonl", number, line)
    before = contents(out)
    remedy = "; remove that line: what it tells of is then found unfinished, and done again when the run goes on\n"
    for arguments in (["resume", str(out)], ["info", str(out)], ["export", str(out), "--to", "pt"]):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error == f"relatent: {out / 'ledger.jsonl'} is damaged in line {number}: {what}{remedy}"
    assert contents(out) == before
    assert main(["verify", str(out)]) == 1
    (found,) = (text for text in capsys.readouterr().out.splitlines() if "ledger.jsonl" in text)
    assert f"line {number}" in found
    assert found.count("remove that line") == 1


def test_without_the_damaged_line_the_run_goes_on(out, capsys):
    shard = out / "shards" / "shard-000000.h5"
    before = shard.read_bytes()
    replace_line(out / "ledger.jsonl", line_of(out, "shard"), "garbage")
    assert main(["resume", str(out)]) == 2
    lines = (out / "ledger.jsonl").read_text().splitlines()
    (out / "ledger.jsonl").write_text("".join(f"{line}\n" for line in lines if line != "garbage"))
    assert main(["resume", str(out)]) == 1  # one picture fails
    assert main(["verify", str(out)]) == 0
    assert shard.read_bytes() == before
