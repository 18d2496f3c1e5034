"""Runs of maps that are killed at any moment and taken up again: the files equal those of a run nobody disturbed."""

import json
import multiprocessing
import random
import shutil
import signal
import time

import h5py
import numpy as np
import pytest
import relatent
from killed_maps import work
from relatent.factory.state.ledger import Ledger
from relatent.systems.anomaly.maps.error_mapper import ErrorMapper
from relatent.systems.anomaly.maps.reader import MapReader
from relatent.systems.anomaly.maps.run import write_maps
from tiny_vqvae import save_checkpoint, write_volumes

VOLUMES, BAD = 200, "vol_p001_L3.npy"
SHARDS = VOLUMES // 4
KILLS = 7


@pytest.fixture(scope="module")
def context():
    """Processes that begin with torch imported, but without its threads."""
    found = multiprocessing.get_context("forkserver")
    # not killed_maps: Python's server before 3.13 does not look for modules where pytest does
    found.set_forkserver_preload(
        [ErrorMapper.__module__, write_maps.__module__, relatent.optimize_directory.__module__]
    )
    return found


def make_place(folder, count):
    """A folder with volumes, one of them damaged, a checkpoint, and a run nobody disturbed."""
    write_volumes(folder / "volumes", count)
    (folder / "volumes" / BAD).write_bytes(b"\x93NUMPY no volume")
    save_checkpoint(folder / "last.ckpt")
    work(folder, folder / "undisturbed")
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("few"), 20)


def columns(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]} if isinstance(item, h5py.Dataset) else {}))
        return found, {key: file.attrs[key] for key in file.attrs if key != "created"}


def assert_same(out, other):
    (one, about), (two, about_other) = columns(out / "maps.h5"), columns(other / "maps.h5")
    assert (one.keys(), about) == (two.keys(), about_other)
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name], err_msg=name)
    files = sorted(path.name for path in (other / "maps").iterdir())
    assert sorted(path.name for path in (out / "maps").iterdir()) == files
    for name in files:
        assert (out / "maps" / name).read_bytes() == (other / "maps" / name).read_bytes()
    records = [json.loads((folder / "run.json").read_text()) for folder in (out, other)]
    for key in ("status", "counts", "failures", "volumes", "identity"):
        assert records[0][key] == records[1][key], key
    assert [one["name"] for one in records[0]["failures"]] == [BAD]
    with MapReader(out) as maps, MapReader(out / "maps.h5") as exported:
        assert maps.names == exported.names
        assert len(files) == 2 * len(maps) == 2 * records[0]["counts"]["total"] - 2
    assert not [path for path in out.rglob("*") if "partial" in path.name]


def finished_files(out):
    """What the ledger holds for finished: name -> inode and time, which a shard made anew would change."""
    shards = Ledger(out / "ledger.jsonl").shards().values()
    facts = {shard.file: (out / "shards" / shard.file).stat() for shard in shards if shard.file}
    return {name: (fact.st_ino, fact.st_mtime_ns) for name, fact in facts.items()}


@pytest.mark.slow
def test_killed_at_random_moments(context, tmp_path):
    """Killed each time a few more shards are done, and again while the exports are written; then nobody kills it."""
    place, out = make_place(tmp_path, VOLUMES), tmp_path / "out"
    chance, kept = random.Random(0), dict[str, tuple[int, int]]()
    for kill in range(KILLS):
        process = context.Process(target=work, args=(place, out))
        process.start()
        goal, deadline = min(len(kept) + chance.randint(7, 14), SHARDS), time.monotonic() + 20
        while process.is_alive() and time.monotonic() < deadline and len(list(out.glob("shards/shard*"))) < goal:
            time.sleep(0.001)
        time.sleep(chance.uniform(0.0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"it was done before kill {kill + 1}"
        now = finished_files(out)
        assert {name: now.get(name) for name in kept} == kept, "a finished shard was made again"
        kept = now
    assert work(place, out)["status"] == "done"
    assert {name: finished_files(out)[name] for name in kept} == kept
    assert_same(out, place / "undisturbed")


@pytest.mark.parametrize(
    "moment",
    [("between write and rename", 1), ("between write and rename", 4), ("between rename and ledger", 3),
     ("within the ledger's line", 1), ("within the ledger's line", 5), ("between write and rename", 6)],
    ids=lambda moment: f"{moment[0]}, {moment[1]}",
)  # fmt: skip
def test_killed_at_the_worst_moment(context, few, tmp_path, moment):
    """The sixth file is maps.h5."""
    out = tmp_path / "out"
    process = context.Process(target=work, args=(few, out, moment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    kept = finished_files(out)
    torn = not (out / "ledger.jsonl").read_bytes().endswith(b"\n") if (out / "ledger.jsonl").exists() else False
    assert torn is (moment[0] == "within the ledger's line")
    assert work(few, out)["status"] == "done"
    assert {name: finished_files(out)[name] for name in kept} == kept
    assert_same(out, few / "undisturbed")


def test_a_damaged_or_missing_shard_is_made_again(few, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(few / "undisturbed", out)
    shards = sorted((out / "shards").iterdir())
    data = bytearray(shards[3].read_bytes())
    data[len(data) // 2] ^= 1
    shards[3].write_bytes(data)
    shards[4].unlink()
    work(few, out)
    assert_same(out, few / "undisturbed")
