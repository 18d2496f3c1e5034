"""Formats that a process of its own writes while shards are still being made."""

import os
import signal

import pytest
from relatent.engine.errors import RunStoppedError, UsageError
from relatent.exporters.base.exporter import FORMATS, exporter_class
from relatent.exporters.files.checksums import SUMS
from relatent.factory import api as directory
from relatent.factory import background_export as beside
from relatent.factory.export import export_run
from relatent.factory.state.run_folder import RunFolder
from relatent.factory.verification.verify import verify_run
from runs import alive, make_pictures, optimize

# every format that takes the small model's latents, but for those that have one name for all pictures of a folder
NAMES = ["hdf5", "png", "webdataset", "mds", "safetensors", "hf"]


@pytest.fixture
def pictures(tmp_path):
    return make_pictures(tmp_path / "pictures")


@pytest.fixture
def at_once(monkeypatch):
    """The process starts with the run; -> the ids of those that did."""
    monkeypatch.setattr(beside, "DELAY", 0.0)
    started, start = [], beside.BackgroundExporter._start

    def noted(self):
        start(self)
        started.append(self._process.pid)

    monkeypatch.setattr(beside.BackgroundExporter, "_start", noted)
    return started


def contents(folder):
    """By relative name; the metadata in a safetensors file's header come in an order of that library's own."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    odd = [name for name in files if name.endswith(".safetensors")]
    for name in odd:
        files[name] = bytes(sorted(files[name]))
    return {name: content for name, content in files.items() if not (odd and name == SUMS)}


def test_what_is_written_beside_is_what_an_export_writes(pictures, vae_folder, tmp_path, at_once, monkeypatch):
    exported = []

    def spy(folder, name):
        exported.append(name)
        return export_run(folder, name)

    monkeypatch.setattr(directory, "export_run", spy)
    record = optimize(pictures, tmp_path / "out", vae_folder, formats=NAMES)
    assert len(at_once) == 1
    assert not alive(at_once)
    assert exported == [name for name in NAMES if not exporter_class(name).streams] == ["hdf5"]
    assert list(record["outputs"]) == NAMES
    assert verify_run(tmp_path / "out")["damage"] == []
    folder = RunFolder.open(tmp_path / "out")
    for name in set(NAMES) - {"hdf5"}:
        again = export_run(folder, name, tmp_path / name)
        assert contents(again) == contents(tmp_path / "out" / FORMATS[name][2]), name


def test_a_short_run_starts_no_process(pictures, vae_folder, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(beside.BackgroundExporter, "_start", lambda self: started.append(self))
    record = optimize(pictures, tmp_path / "out", vae_folder, formats=["safetensors"])
    assert started == []
    assert record["outputs"] == {"safetensors": str(tmp_path / "out" / FORMATS["safetensors"][2])}


def test_a_process_that_is_killed_costs_nothing_but_its_work(pictures, vae_folder, tmp_path, at_once, monkeypatch):
    finish = beside.BackgroundExporter.finish

    def killed(self):
        self._stop_timer()
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        return finish(self)

    monkeypatch.setattr(beside.BackgroundExporter, "finish", killed)
    record = optimize(pictures, tmp_path / "out", vae_folder, formats=["webdataset"])
    assert at_once
    assert record["status"] == "done"
    assert "webdataset" in record["outputs"]
    assert verify_run(tmp_path / "out")["damage"] == []
    optimize(pictures, tmp_path / "out", vae_folder, formats=["webdataset"])
    left = [path.name for path in (tmp_path / "out").glob(".*")]
    assert left == [], "the next run takes away what it left"


@pytest.mark.parametrize("listens", [True, False])
def test_a_run_that_stops_takes_the_process_with_it(pictures, vae_folder, tmp_path, at_once, monkeypatch, listens):
    if not listens:
        start = beside.BackgroundExporter._start

        def stopped(self):
            start(self)
            os.kill(self._process.pid, signal.SIGSTOP)

        monkeypatch.setattr(beside.BackgroundExporter, "_start", stopped)
    (pictures / "11.png").write_bytes(b"no picture")
    with pytest.raises(RunStoppedError, match="--max-failures 0"):
        optimize(pictures, tmp_path / "out", vae_folder, formats=["webdataset", "png"], max_failures=0)
    assert len(at_once) == 1
    assert not alive(at_once)
    assert [path.name for path in (tmp_path / "out").glob("*partial*")] == []
    assert not (tmp_path / "out" / FORMATS["webdataset"][2]).exists()


def test_what_fails_beside_is_told_as_ever(pictures, vae_folder, tmp_path, at_once):
    (pictures / "11.png").write_bytes(b"no picture")
    with pytest.raises(RunStoppedError):
        optimize(pictures, tmp_path / "out", vae_folder, formats=["png", "webdataset"], max_failures=0)
    foreign = tmp_path / "out" / FORMATS["png"][2] / "mine.txt"
    foreign.parent.mkdir()
    foreign.write_text("mine")
    with pytest.raises(UsageError, match="no export of relatent"):
        optimize(pictures, tmp_path / "out", vae_folder, formats=["png", "webdataset"])
    assert len(at_once) == 2
    assert not alive(at_once)
    assert foreign.read_text() == "mine"
    foreign.unlink()
    record = optimize(pictures, tmp_path / "out", vae_folder, formats=["png", "webdataset"])
    assert record["counts"] == {"total": 12, "done": 11, "failed": 1}
    assert len(record["outputs"]) == 2
    assert verify_run(tmp_path / "out")["damage"] == []
