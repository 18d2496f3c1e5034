"""What `relatent verify --inputs` and a resumed run find of pictures that were edited, under equal size and time too."""

import json
import os
import shutil

import numpy as np
import pytest
import relatent
from helpers import picture
from PIL import Image
from relatent.cli.main import main
from relatent.engine.errors import UsageError
from relatent.factory.state.run_folder import RunFolder

CONFIG = relatent.OptimizationConfig(iterations=2, precision="fp32")
REMEDY = "put it back as it was, or optimise again into another OUT"


@pytest.fixture(scope="module")
def made(tmp_path_factory, vae_folder):
    """Four pictures with masks in two shards, and one that is no picture in a third."""
    root = tmp_path_factory.mktemp("made")
    for folder in ("in", "masks"):
        (root / folder).mkdir()
    for seed in range(4):
        Image.fromarray(picture(40, 40, seed)).save(root / "in" / f"{seed}.png")
    (root / "in" / "4.png").write_text("no picture")
    for seed in range(5):
        Image.fromarray(np.full((40, 40), 200, np.uint8)).save(root / "masks" / f"{seed}.png")
    relatent.optimize_directory(
        root / "in", root / "out", vae_folder, config=CONFIG, size=32, shard_size=2, workers=0, device="cpu",
        masks=root / "masks", keep_images=False,
    )  # fmt: skip
    return root


@pytest.fixture
def root(made, tmp_path):
    """A copy, whose plan names the copies of the files."""
    shutil.copytree(made, tmp_path / "run")
    for name in ("plan.jsonl", "run.json"):
        path = tmp_path / "run" / "out" / name
        path.write_text(path.read_text().replace(str(made), str(tmp_path / "run")))
    return tmp_path / "run"


def edit_in_place(path):
    """Change one byte; size and modification time stay."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_intact_inputs_are_counted_and_no_damage(root):
    os.utime(root / "in" / "0.png")  # another time, the same content
    found = relatent.verify_run(root / "out", inputs=True)
    assert found["damage"] == []
    assert found["notes"] == []
    assert found["inputs"] == {"checked": 5, "changed": []}
    assert relatent.verify_run(root / "out")["inputs"] is None


def test_changed_missing_and_unreadable_inputs_are_named_with_the_remedy(root, capsys):
    edit_in_place(root / "in" / "0.png")
    (root / "in" / "1.png").unlink()
    (root / "in" / "2.png").unlink()
    (root / "in" / "2.png").mkdir()
    edit_in_place(root / "masks" / "3.png")
    assert main(["verify", str(root / "out"), "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["verify", str(root / "out"), "--device", "cpu", "--inputs", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["damage"] == [
        {"file": str(root / "in" / "0.png"), "what": "has changed", "remedy": REMEDY},
        {"file": str(root / "in" / "1.png"), "what": "is gone", "remedy": REMEDY},
        {"file": str(root / "in" / "2.png"), "what": "cannot be read: no regular file", "remedy": REMEDY},
        {"file": str(root / "masks" / "3.png"), "what": "has changed", "remedy": REMEDY},
    ]
    assert found["inputs"] == {"checked": 5, "changed": ["0.png", "1.png", "2.png", "3.png"]}
    assert main(["verify", str(root / "out"), "--device", "cpu", "--inputs"]) == 1
    printed = capsys.readouterr().out
    assert f"{root / 'in' / '0.png'}: has changed; {REMEDY}" in printed
    assert "5 input pictures read again, 4 not as they were planned" in printed


def test_a_failed_picture_may_change_which_is_noted(root):
    Image.fromarray(picture(40, 40, 4)).save(root / "in" / "4.png")
    found = relatent.verify_run(root / "out", inputs=True)
    assert found["damage"] == []
    assert found["notes"] == [
        f"pictures that failed, and whose files have changed since: 1; `relatent resume {root / 'out'} --retry-failed` takes them up"
    ]


def test_a_picture_that_was_planned_without_a_checksum_is_noted(root):
    """It was unreadable when the run was planned, and readable when it was optimised."""
    header, *lines = (root / "out" / "plan.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[1] |= {"bytes": -1, "mtime_ns": -1, "sha256": None}
    (root / "out" / "plan.jsonl").write_text("".join(f"{line}\n" for line in [header, *map(json.dumps, rows)]))
    edit_in_place(root / "in" / "1.png")
    found = relatent.verify_run(root / "out", inputs=True)
    assert (found["damage"], found["inputs"]) == ([], {"checked": 4, "changed": []})
    assert found["notes"] == ["pictures that could not be read when the run was planned, and not compared: 1"]


def test_resume_finds_by_content_what_it_makes_and_verify_finds_the_rest(root):
    RunFolder.open(root / "out").ledger.drop([1])  # 2.png and 3.png are to be made
    edit_in_place(root / "in" / "0.png")
    edit_in_place(root / "in" / "2.png")
    edit_in_place(root / "masks" / "3.png")
    found = relatent.resume_directory(root / "out", workers=0)
    assert {one["name"]: one["reason"] for one in found["failures"] if one["name"] != "4"} == {
        "2": "changed since the run was planned",
        "3": f"mask {root / 'masks' / '3.png'}: changed since the run was planned",
    }
    assert found["counts"] == {"total": 5, "done": 2, "failed": 3}
    assert relatent.verify_run(root / "out", inputs=True)["inputs"]["changed"] == ["0.png"]  # the others have failed


def test_repair_compares_the_pictures_of_broken_shards_by_content(root):
    shard = root / "out" / "shards" / "shard-000000.h5"
    shard.write_bytes(shard.read_bytes()[:-100])
    before = {path: path.read_bytes() for path in (root / "out").rglob("*") if path.is_file()}
    edit_in_place(root / "in" / "1.png")
    with pytest.raises(UsageError, match=r"inputs changed since the run began: \S*1\.png has changed; put them back"):
        relatent.verify_run(root / "out", repair=True)
    after = {path: path.read_bytes() for path in before}
    assert after == before
    edit_in_place(root / "in" / "1.png")  # back as it was
    edit_in_place(root / "in" / "3.png")  # of a sound shard
    found = relatent.verify_run(root / "out", repair=True, inputs=True)
    assert [one["file"] for one in found["damage"]] == [str(root / "in" / "3.png")]
    assert str(shard) in [one["file"] for one in found["repaired"]]
