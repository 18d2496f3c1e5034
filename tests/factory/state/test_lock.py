"""The lock of a run's folder: held by another process, or not to be had on this file system."""

import errno
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from relatent.engine.errors import UsageError
from relatent.exporters.hdf5.reading import open_file
from relatent.factory.state.lock import RunLock
from runs import only_line
from without_locks import POSSIBLE, relatent_without_locks

fcntl = pytest.importorskip("fcntl")
without_locks = pytest.mark.skipif(not POSSIBLE, reason="needs Linux's seccomp on x86-64")


def hold(folder, ready, done):
    with RunLock(folder):
        ready.set()
        done.wait(60)


def test_a_lock_that_another_process_holds_is_said_to_be_held(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, done))
    process.start()
    try:
        assert ready.wait(60)
        with pytest.raises(UsageError, match=rf"is in use: process {process.pid} on .* is writing to it"):
            RunLock(tmp_path).__enter__()
    finally:
        done.set()
        process.join()
    with RunLock(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_no_locks_are_said_once_and_do_not_stop_the_run(tmp_path, monkeypatch, caplog, number):
    def refuse(*_):
        raise OSError(number, "refused")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with RunLock(tmp_path):
        assert "process" in (tmp_path / "run.lock").read_text()
        with pytest.raises(UsageError, match="another run of this very process"):
            RunLock(tmp_path).__enter__()
    (line,) = caplog.messages
    assert "on a file system without locks (refused)" in line


def test_any_other_error_is_itself(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        RunLock(tmp_path).__enter__()


@without_locks
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_hdf5_files_open_without_locks(tmp_path, number):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["schema"] = "relatent/1"
    code = (
        "import sys, pathlib, h5py; from without_locks import refuse_locks; "
        "from relatent.exporters.hdf5.reading import open_file; "
        f"path = pathlib.Path({str(tmp_path / 'a.h5')!r}); refuse_locks({number})\n"
        "try: h5py.File(path, 'r', locking=True)\n"
        "except OSError as error: print(error)\n"
        "print(open_file(path).attrs['schema'])"
    )
    folder = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    refused, schema = done.stdout.splitlines()
    assert f"unable to lock file, errno = {number}" in refused
    assert schema == "relatent/1"


@without_locks
def test_a_run_and_its_verification_without_locks(photographs, tmp_path, vae_folder):
    out = tmp_path / "out"
    command = [
        "optimize",
        photographs,
        out,
        "--vae",
        vae_folder,
        "--size",
        "32",
        "--iterations",
        "1",
        "--shard-size",
        "2",
    ]
    done = relatent_without_locks(errno.ENOLCK, *command, "--workers", "0")
    assert done.returncode == 0, done.stderr
    assert f"{out} is on a file system without locks" in only_line(done.stderr)
    assert json.loads((out / "run.json").read_text())["status"] == "done"
    done = relatent_without_locks(errno.ENOLCK, "verify", out, "--json")
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert (found["damage"], found["pictures"], found["sample"]["decoded"]) == ([], 4, 4)
    assert done.stderr == ""


def test_a_file_that_another_process_writes_is_not_opened_behind_its_lock(tmp_path):
    """HDF5's lock is passed by only where there is none to be had."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", locking=True) as file:
        file.attrs["schema"] = "relatent/1"
        file.flush()
        done = subprocess.run([sys.executable, "-c", OPEN, path], capture_output=True, text=True, timeout=120)
    assert "unable to lock file" in done.stdout, done.stderr
    open_file(path).close()


OPEN = """
import sys
from pathlib import Path

from relatent.engine.errors import DatasetError
from relatent.exporters.hdf5.reading import open_file

try:
    open_file(Path(sys.argv[1]))
except DatasetError as error:
    print(error)
"""
