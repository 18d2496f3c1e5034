"""Runs that are killed at any moment and taken up again: the dataset equals that of a run nobody disturbed."""

import json
import multiprocessing
import random
import signal
import time

import h5py
import numpy as np
import pytest
import torch
from helpers import picture
from killed import CONFIG, work
from PIL import Image
from relatent import optimize_directory, resume_directory
from relatent.factory.state.run_folder import RunFolder

KILLS = 20
PICTURES = 48


@pytest.fixture(scope="module")
def context():
    """Processes that begin with torch imported, but without its threads."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["killed", "diffusers.models.autoencoders"])
    return found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(PICTURES):
        Image.fromarray(picture(40, 40, seed)).save(folder / f"{seed:02}.png")
    (folder / "07.png").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def undisturbed(pictures, vae_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    work(pictures, out, vae_folder)
    return out


def columns(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]} if isinstance(item, h5py.Dataset) else {}))
        attributes = {key: file.attrs[key] for key in file.attrs if key != "created"}
    return found, attributes


def assert_same(out, other):
    """All values of both datasets, and what run.json says of them."""
    (one, about), (two, about_other) = columns(out / "dataset.h5"), columns(other / "dataset.h5")
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name], err_msg=name)
    assert about.keys() == about_other.keys()
    for key, value in about.items():
        np.testing.assert_array_equal(value, about_other[key])
    first, second = (torch.load(folder / "dataset.pt", weights_only=True) for folder in (out, other))
    assert torch.equal(first["optimized_latents"], second["optimized_latents"])
    records = [json.loads((folder / "run.json").read_text()) for folder in (out, other)]
    for key in ("status", "counts", "statistics", "latents", "failures", "config"):
        assert records[0][key] == records[1][key], key


def finished_files(out):
    """What the ledger holds for finished: name -> inode and time, which a shard made anew would change."""
    shards = RunFolder.open(out).ledger.shards() if (out / "run.json").exists() else {}
    facts = {shard.file: (out / "shards" / shard.file).stat() for shard in shards.values() if shard.file}
    return {name: (fact.st_ino, fact.st_mtime_ns) for name, fact in facts.items()}


@pytest.mark.slow
def test_killed_at_random_moments(context, pictures, vae_folder, undisturbed, tmp_path):
    """A run killed again and again, each time at a random moment, until there were `KILLS`; on a fast machine another
    one goes on where it is done before."""
    chance, kills, runs = random.Random(0), 0, 1
    out, kept = tmp_path / "1", dict[str, tuple[int, int]]()

    def check():
        work(pictures, out, vae_folder)
        assert {name: finished_files(out)[name] for name in kept} == kept
        assert_same(out, undisturbed)
        assert not [path for path in out.rglob("*") if "partial" in path.name]

    while kills < KILLS:
        process = context.Process(target=work, args=(pictures, out, vae_folder))
        process.start()
        # half of them at any time after the start, half soon after one more shard is finished
        if kills % 2:
            deadline = time.monotonic() + chance.uniform(0.0, 0.8)
            while time.monotonic() < deadline and process.is_alive():
                time.sleep(0.002)
        else:
            before, deadline = len(list(out.glob("shards/shard*"))), time.monotonic() + 20
            while len(list(out.glob("shards/shard*"))) == before and process.is_alive() and time.monotonic() < deadline:
                time.sleep(0.0005)
            time.sleep(chance.uniform(0.0, 0.03))
        process.kill()
        process.join()
        if process.exitcode == 0:
            check()
            runs += 1
            out, kept = tmp_path / str(runs), {}
            continue
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        now = finished_files(out)
        assert {name: now.get(name) for name in kept} == kept, "a finished shard was made again"
        kept = now
    check()


@pytest.mark.parametrize(
    "moment",
    [("plan", 1), ("between write and rename", 1), ("between write and rename", 4), ("between rename and ledger", 3),
     ("within the ledger's line", 1), ("within the ledger's line", 5), ("between write and rename", 25)],
    ids=lambda moment: f"{moment[0]}, {moment[1]}",
)  # fmt: skip
def test_killed_at_the_worst_moment(context, pictures, vae_folder, undisturbed, tmp_path, moment):
    """The twenty-fifth file is dataset.h5."""
    out = tmp_path / "out"
    process = context.Process(target=work, args=(pictures, out, vae_folder, moment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    kept = finished_files(out)
    record = resume_directory(out)
    assert record["status"] == "done"
    assert {name: finished_files(out)[name] for name in kept} == kept
    assert_same(out, undisturbed)


def test_a_shard_is_the_same_whoever_makes_it_and_however_it_is_cut_short(pictures, vae_folder, undisturbed, tmp_path):
    """Interrupted in the middle of shards: what was finished of them is kept, not made again."""
    out, seen = tmp_path / "out", []

    class Interrupt:
        def __init__(self, after):
            self.after = after

        def __call__(self, *_):
            self.after -= 1
            if self.after == 0:
                raise KeyboardInterrupt

    from relatent.factory.state.progress import Progress

    add = Progress.add
    for after in (1, 3, 4):
        interrupt = Interrupt(after)

        def counted(self, gains, failed, interrupt=interrupt):
            add(self, gains, failed)
            seen.append(len(gains) + failed)
            interrupt()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Progress, "add", counted)
            with pytest.raises(KeyboardInterrupt):
                optimize_directory(
                    pictures, out, str(vae_folder), config=CONFIG, size=32, shard_size=2, device="cpu",
                    formats=["hdf5", "pt"],
                )  # fmt: skip
        assert RunFolder.open(out).record.status == "interrupted"
        assert RunFolder.open(out).record.counts["done"] == sum(seen) - (sum(seen) > 7)  # the eighth is no picture
    assert resume_directory(out)["status"] == "done"
    assert_same(out, undisturbed)
