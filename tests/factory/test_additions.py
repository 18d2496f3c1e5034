"""New pictures added to a run: what was finished stays as it is, and everything is exported again."""

import json
import multiprocessing
import signal

import numpy as np
import pytest
import torch
from helpers import picture
from killed import CONFIG, work
from PIL import Image
from relatent import load_optimized_dataset, optimize_directory, resume_directory, verify_run
from relatent.cli.main import main
from relatent.engine.errors import UsageError
from relatent.factory.state.run_folder import RunFolder


def save(folder, name, seed, size=(40, 40)):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(*reversed(size), seed)).save(folder / name)


@pytest.fixture
def pictures(tmp_path):
    """Three pictures, the second one unreadable: shards of two and one."""
    folder = tmp_path / "pictures"
    for seed, name in enumerate(("a.png", "b.png", "c.png")):
        save(folder, name, seed)
    (folder / "b.png").write_text("no picture")
    return folder


def add_some(folder):
    """Four more, before, between and behind those of `pictures`; two share their stems with others."""
    for seed, name in enumerate(("A0.png", "sub/a.png", "sub/b.png", "z.png"), 10):
        save(folder, name, seed)


def shards(out):
    """What is finished: name -> inode, time and bytes."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted((out / "shards").iterdir())
    }


def planned(out):
    return [(row.source.relative, row.source.name) for row in RunFolder.open(out).plan.all_rows()]


def latents(out):
    return {record.name: record.optimized_latents for some in RunFolder.open(out).records() for record in some}


def test_new_pictures_are_appended_and_finished_shards_stay(pictures, vae_folder, tmp_path):
    out = tmp_path / "out"
    work(pictures, out, vae_folder)
    before, names, values = shards(out), planned(out), latents(out)
    add_some(pictures)
    work(pictures, out, vae_folder, add=True)
    record = RunFolder.open(out).record
    assert (record.status, record.counts) == ("done", {"total": 7, "done": 6, "failed": 1})
    after, found = planned(out), latents(out)
    assert after[:3] == names == [("a.png", "a"), ("b.png", "b"), ("c.png", "c")]
    assert [relative for relative, _ in after[3:]] == ["A0.png", "sub/a.png", "sub/b.png", "z.png"]
    assert len({name.casefold() for _, name in after}) == 7
    assert {name: shards(out)[name] for name in before} == before
    assert list(shards(out)) == [f"shard-{number:06d}.h5" for number in range(4)]
    assert all(np.array_equal(found[name], values[name]) for name in values)
    # what a run over the new pictures alone makes of them
    alone = tmp_path / "alone"
    for path in (pictures / "a.png", pictures / "b.png", pictures / "c.png"):
        path.rename(tmp_path / path.name)
    work(pictures, alone, vae_folder)
    expected = dict(zip((relative for relative, _ in planned(alone)), latents(alone).values(), strict=True))
    for relative, name in after[3:]:
        assert np.array_equal(found[name], expected[relative]), relative
    for path in ("a.png", "b.png", "c.png"):
        (tmp_path / path).rename(pictures / path)
    # every output holds all of them, in the order of the plan
    names = [name for _, name in after if name != "b"]
    for file in ("dataset.h5", "dataset.pt"):
        dataset = load_optimized_dataset(out / file)
        assert [sample["image_name"] for sample in dataset] == names
        assert all(torch.equal(one["optimized_latents"], torch.from_numpy(found[one["image_name"]])) for one in dataset)
    checked = verify_run(out, inputs=True)
    assert (checked["damage"], checked["outputs"], checked["pictures"]) == ([], 2, 6)
    assert checked["inputs"] == {"checked": 7, "changed": []}


def test_without_add_new_pictures_are_refused_with_the_remedy(pictures, vae_folder, tmp_path):
    out = tmp_path / "out"
    work(pictures, out, vae_folder)
    before = (out / "plan.jsonl").read_bytes()
    add_some(pictures)
    with pytest.raises(
        UsageError, match=r"other pictures: A0\.png is new; sub/a\.png is new; .*--add adds what is new"
    ):
        work(pictures, out, vae_folder)
    (pictures / "c.png").rename(tmp_path / "c.png")
    with pytest.raises(UsageError, match=r"c\.png is gone; put back what is gone, or choose another OUT"):
        work(pictures, out, vae_folder)
    with pytest.raises(UsageError, match=r"c\.png is gone; put them back"):
        work(pictures, out, vae_folder, add=True)
    (tmp_path / "c.png").rename(pictures / "c.png")
    save(pictures, "a.png", 5)
    with pytest.raises(UsageError, match=r"a\.png has changed; put them back, or choose another OUT"):
        work(pictures, out, vae_folder, add=True)
    assert (out / "plan.jsonl").read_bytes() == before


def test_a_list_that_no_longer_names_a_picture_is_refused(pictures, vae_folder, tmp_path):
    chosen = tmp_path / "chosen.txt"
    chosen.write_text("pictures/a.png\npictures/c.png\n")
    out = tmp_path / "out"
    work(chosen, out, vae_folder)
    save(pictures, "d.png", 3)
    chosen.write_text("pictures/a.png\npictures/d.png\n")
    with pytest.raises(UsageError, match=r"other pictures: pictures/c\.png is gone; put back what is gone"):
        work(chosen, out, vae_folder, add=True)
    chosen.write_text("pictures/d.png\npictures/c.png\npictures/a.png\n")
    work(chosen, out, vae_folder, add=True)
    assert list(latents(out)) == ["a", "c", "d"]


def test_nothing_new_leaves_a_run_as_it_is_and_the_first_run_may_add(pictures, vae_folder, tmp_path):
    out = tmp_path / "out"
    work(pictures, out, vae_folder, add=True)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "run.lock"}
    work(pictures, out, vae_folder, add=True)
    assert {path: path.read_bytes() for path in before} == before
    assert planned(out) == [("a.png", "a"), ("b.png", "b"), ("c.png", "c")]


def test_a_limit_counts_the_pictures_of_the_plan(pictures, vae_folder, tmp_path):
    """Per split; what comes first now does not push out what the run has."""
    save(pictures, "train/1.png", 20)
    arguments = dict(config=CONFIG, size=32, shard_size=2, device="cpu", limit=2, add=True)
    out = tmp_path / "out"
    optimize_directory(pictures, out, str(vae_folder), **arguments)
    assert [relative for relative, _ in planned(out)] == ["train/1.png", "a.png", "b.png"]
    for seed, name in enumerate(("0.png", "train/0.png", "train/2.png"), 30):
        save(pictures, name, seed)
    found = optimize_directory(pictures, out, str(vae_folder), **arguments)
    assert [relative for relative, _ in planned(out)] == ["train/1.png", "a.png", "b.png", "train/0.png"]
    assert found["counts"] == {"total": 4, "done": 3, "failed": 1}


def test_names_of_the_plan_are_never_given_away(pictures, vae_folder, tmp_path):
    """The plan's `a-…` would be the name of a new picture with that stem."""
    save(pictures, "sub/a.png", 20)
    out = tmp_path / "out"
    work(pictures, out, vae_folder)
    names = dict(planned(out))
    assert names["a.png"].startswith("a-")
    save(pictures, f"{names['a.png'].upper()}.png", 21)
    work(pictures, out, vae_folder, add=True)
    assert dict(planned(out)[:4]) == names
    assert planned(out)[4][1] == f"{names['a.png'].upper()}-2"
    assert list(latents(out)) == [name for _, name in planned(out) if name != "b"]


def test_new_pictures_get_their_own_sizes(pictures, vae_folder, tmp_path):
    """Of a run of several sizes: one that the plan has, one that it has not, and the plan's usual one where none can be
    read."""
    save(pictures, "c.png", 2, size=(40, 64))
    arguments = dict(config=CONFIG, native=True, shard_size=2, device="cpu")
    out = tmp_path / "out"
    optimize_directory(pictures, out, str(vae_folder), **arguments)
    before = shards(out)
    (pictures / "d.png").write_text("no picture either")
    found = optimize_directory(pictures, out, str(vae_folder), add=True, **arguments)
    assert found["counts"] == {"total": 4, "done": 2, "failed": 2}
    save(pictures, "0.png", 3, size=(40, 64))
    save(pictures, "e.png", 4, size=(24, 32))
    found = optimize_directory(pictures, out, str(vae_folder), add=True, **arguments)
    assert found["counts"] == {"total": 6, "done": 4, "failed": 2}
    plan = RunFolder.open(out).plan
    sizes = {row.source.relative: row.source.size for row in plan.all_rows()}
    assert sizes == {
        "a.png": (40, 40), "b.png": (40, 40), "c.png": (40, 64), "d.png": (40, 40), "0.png": (40, 64), "e.png": (24, 32),
    }  # fmt: skip
    assert {name: shards(out)[name] for name in before} == before
    dataset = load_optimized_dataset(out / "dataset.h5")
    shapes = {sample["image_name"]: tuple(sample["optimized_latents"].shape) for sample in dataset}
    assert shapes == {"a": (4, 5, 5), "c": (4, 8, 5), "0": (4, 8, 5), "e": (4, 4, 3)}
    found = latents(out)
    for sample in dataset:
        assert np.array_equal(sample["optimized_latents"].numpy(), found[sample["image_name"]]), sample["image_name"]
    assert verify_run(out)["damage"] == []


def test_masks_of_new_pictures_are_planned_too(pictures, vae_folder, tmp_path):
    for name in ("a", "b", "c", "d"):
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 40), 128, np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    arguments = dict(config=CONFIG, size=32, device="cpu", masks=tmp_path / "masks", add=True)
    out = tmp_path / "out"
    optimize_directory(pictures, out, str(vae_folder), **arguments)
    save(pictures, "d.png", 4)
    save(pictures, "e.png", 5)
    found = optimize_directory(pictures, out, str(vae_folder), **arguments)
    assert {failure["name"] for failure in found["failures"]} == {"b", "e"}  # no picture, no mask
    masks = {row.source.name: row.mask and row.mask.path for row in RunFolder.open(out).plan.all_rows()}
    assert (masks["d"], masks["e"]) == (str(tmp_path / "masks" / "d.png"), None)


def test_an_unfinished_run_is_added_to_and_finished(pictures, vae_folder, tmp_path):
    out = tmp_path / "out"
    work(pictures, out, vae_folder)
    (out / "shards" / "shard-000001.h5").unlink()
    RunFolder.open(out).ledger.drop([1])
    add_some(pictures)
    work(pictures, out, vae_folder, add=True)
    assert RunFolder.open(out).record.counts == {"total": 7, "done": 6, "failed": 1}
    assert verify_run(out)["damage"] == []


def test_from_the_command_line(pictures, vae_folder, tmp_path, capsys):
    (pictures / "b.png").unlink()
    out = tmp_path / "out"
    arguments = [
        "optimize", str(pictures), str(out), "--vae", str(vae_folder), "--size", "32", "--iterations", "2",
        "--device", "cpu", "--json",
    ]  # fmt: skip
    assert main(arguments) == 0
    save(pictures, "d.png", 4)
    capsys.readouterr()
    assert main(arguments) == 2
    assert "d.png is new; --add adds what is new" in capsys.readouterr().err
    assert main([*arguments, "--add"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"total": 3, "done": 3, "failed": 0}
    assert main(arguments) == 0  # it is the same run now


@pytest.mark.parametrize(
    ("moment", "total"),
    [(("plan", 1), 3), (("after the plan", 1), 7), (("between write and rename", 1), 7),
     (("between rename and ledger", 2), 7), (("between write and rename", 3), 7)],
    ids=lambda value: f"{value[0]}, {value[1]}" if isinstance(value, tuple) else None,
)  # fmt: skip
def test_killed_while_pictures_are_added(pictures, vae_folder, tmp_path, moment, total):
    """Before the plan is renamed the run is as it was; after it, `resume` makes what is new. The third file is
    dataset.h5."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed", "diffusers.models.autoencoders"])
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    work(pictures, out, vae_folder)
    before = shards(out)
    add_some(pictures)
    process = context.Process(target=work, args=(pictures, out, vae_folder, moment, True))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert {name: shards(out)[name] for name in before} == before
    assert resume_directory(out)["counts"] == {"total": total, "done": total - 1, "failed": 1}
    work(pictures, out, vae_folder, add=True)
    assert {name: shards(out)[name] for name in before} == before
    assert not [path for path in out.rglob("*") if "partial" in path.name]
    assert verify_run(out)["damage"] == []
    chosen = tmp_path / "pictures" / "chosen.txt"  # the same pictures in the same order, in one run
    chosen.write_text("".join(f"{relative}\n" for relative, _ in planned(out)))
    work(chosen, undisturbed, vae_folder)
    found, expected = latents(out), latents(undisturbed)
    assert len(found) == 6
    for (_, name), (_, other) in zip(planned(out), planned(undisturbed), strict=True):
        if name != "b":
            assert np.array_equal(found[name], expected[other]), name
