"""An export that cannot be written: one line, and nothing half-written."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import relatent
import torch
from helpers import picture
from PIL import Image
from relatent.cli.main import main
from relatent.exporters.files.tensor_files import save_pt, save_safetensors
from safetensors.numpy import load_file

resource = pytest.importorskip("resource")
LIMIT = 1000  # bytes of a file: more than the ledger's line, less than any export


@contextlib.contextmanager
def small_disk():
    """Let no file grow above `LIMIT`, which is a real error of the system's."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def out(tmp_path_factory, small_vae):
    root = tmp_path_factory.mktemp("run")
    Image.fromarray(picture()).save(root / "first.png")
    relatent.optimize_directory(
        root / "first.png", root / "out", small_vae, size=32, flip=True, config=relatent.preset(None, iterations=1)
    )
    return root / "out"


def files(folder):
    # the lock's file holds the last process's number
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "run.lock"}


@pytest.mark.parametrize("name", ["hdf5", "pt", "safetensors", "lightningdit", "comfyui", "webdataset", "mar"])
def test_a_full_disk_is_one_line_and_leaves_nothing(out, tmp_path, capsys, name):
    before = files(out)
    with small_disk():
        status = main(["export", str(out), "--to", name, str(tmp_path / "place")])
    assert status == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "File too large" in error
    assert error.endswith("; nothing half-written is left, and the same command, given again, does it anew\n")
    assert list(tmp_path.iterdir()) == []
    assert files(out) == before
    assert main(["export", str(out), "--to", name, str(tmp_path / "place")]) == 0


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc, where nobody can write")
@pytest.mark.parametrize("name", ["hdf5", "pt", "safetensors"])
def test_a_place_that_cannot_be_written_is_one_line(out, capsys, name):
    assert main(["export", str(out), "--to", name, "/proc/place"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "No such file or directory" in error
    assert "relatent resume" not in error


def test_tensor_files_hold_what_they_are_given(tmp_path):
    values = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    save_safetensors({"a": values}, tmp_path / "a.safetensors", {"key": "text"})
    assert np.array_equal(load_file(tmp_path / "a.safetensors")["a"], values)
    content = {"metadata": {"name": "one"}, "values": torch.from_numpy(values)}
    save_pt(content, tmp_path / "a.pt")
    found = torch.load(tmp_path / "a.pt", weights_only=True, mmap=True)
    assert found["metadata"] == content["metadata"]
    assert torch.equal(found["values"], content["values"])
    large = torch.zeros(LIMIT)
    for save in (
        lambda: save_pt(large, tmp_path / "b"),
        lambda: save_safetensors({"a": large.numpy()}, tmp_path / "b", {}),
    ):
        with small_disk(), pytest.raises(OSError, match="File too large"):
            save()


def test_what_torch_itself_refuses_stays_its_error(tmp_path):
    with pytest.raises(Exception, match="pickle"):
        save_pt(lambda: None, tmp_path / "a.pt")
