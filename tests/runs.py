"""What tests of whole runs in other processes share."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
from helpers import picture
from PIL import Image
from relatent import optimize_directory, preset

SHARDS = 6
ITERATIONS = 12
# of the small model, with shards small enough to be caught between two of them
OPTIONS = ["--size", "32", "--iterations", ITERATIONS, "--shard-size", "2", "--device", "cpu"]


def make_pictures(folder: Path) -> Path:
    """Two for each shard."""
    folder.mkdir()
    for seed in range(2 * SHARDS):
        Image.fromarray(picture(seed=seed)).save(folder / f"{seed:02}.png")
    return folder


def optimize(source, out, vae, **options):
    """In this process, with the settings of OPTIONS."""
    return optimize_directory(
        source, out, vae, config=preset(None, iterations=ITERATIONS), size=32, shard_size=2, device="cpu", **options
    )


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "relatent", *map(str, arguments)]


def start(*arguments) -> subprocess.Popen:
    """The command line, in a process group of its own."""
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell starts background jobs with SIGINT ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def shard_lines(out: Path) -> list[dict]:
    """Of the ledger, whole lines."""
    path = out / "ledger.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [line for line in found if line["kind"] == "shard"]


def wait_for(what, process=None, seconds=120):
    """Until `what()` is true; -> that. The process, if any, must not end before."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        assert process is None or process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    return found


def descendants(pid: int) -> dict[int, str]:
    """Command lines of the processes that came of that one and are alive, by id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            text = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if state != "Z":
            found[int(path.name)] = (int(parent), text)
    mine, grown = {pid}, True
    while grown:
        more = {child for child, (parent, _) in found.items() if parent in mine} - mine
        mine, grown = mine | more, bool(more)
    return {child: found[child][1] for child in mine - {pid} if child in found}


def children(pid: int) -> dict[int, str]:
    """Of these, its own."""
    return {child: text for child, text in descendants(pid).items() if _parent(child) == pid}


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def alive(pids) -> list[int]:
    """Those that run."""
    running = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        running += [pid] if state != "Z" else []
    return running


def only_line(stderr: str) -> str:
    """The one line on stderr that is not of the progress."""
    lines = [line for line in stderr.splitlines() if "images/s" not in line and ", once: " not in line]
    assert len(lines) == 1, stderr
    return lines[0]


def check_gone(pids) -> None:
    """Those processes end within seconds."""
    wait_for(lambda: not alive(pids), seconds=20)


def check_complete(out: Path, single: Path) -> None:
    """All shards are there, each entered once and as its checksum says, and every value is that of the run `single`."""
    assert json.loads((out / "run.json").read_text())["status"] == "done"
    lines = shard_lines(out)
    assert Counter(line["number"] for line in lines) == Counter(range(SHARDS))
    assert all(line["whole"] for line in lines)
    for line in lines:
        assert hashlib.sha256((out / "shards" / line["file"]).read_bytes()).hexdigest() == line["sha256"]
    assert sorted(os.listdir(out / "shards")) == sorted(line["file"] for line in lines)
    found, expected = _values(out / "dataset.h5"), _values(single / "dataset.h5")
    assert set(found) == set(expected)
    for name, value in expected.items():
        equal_nan = np.issubdtype(value.dtype, np.floating)
        assert np.array_equal(found[name], value, equal_nan=equal_nan), name


def _values(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[:]}) if isinstance(item, h5py.Dataset) else None)
    return found
