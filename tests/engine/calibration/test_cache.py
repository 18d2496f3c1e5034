"""Where the caches are, in homes of every kind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import relatent_process
from relatent.engine.calibration import cache
from runs import only_line


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of this test's own; temporary folders are below it too."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    cache._root.cache_clear()
    yield tmp_path / "home"
    cache._root.cache_clear()


def test_the_usual_places(home, monkeypatch, caplog):
    assert cache.cache_folder("a") == home / ".cache" / "relatent" / "a"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "elsewhere"))
    assert cache.cache_folder("a") == home / "elsewhere" / "relatent" / "a"
    assert caplog.messages == []


def test_a_home_that_is_none_is_said_once(home, caplog):
    home.write_text("a file")
    found = cache.cache_folder("a")
    assert found == home.parent / f"relatent-{os.geteuid()}" / "a"
    assert cache.cache_folder("b") == found.parent / "b"
    (line,) = caplog.messages
    assert line.startswith(f"{home}/.cache/relatent cannot be written to (Not a directory)")
    assert str(found.parent) in line
    cache.write_tensors(found / "x.pt", [1.0])
    assert cache.read_tensors(found / "x.pt") == [1.0]
    assert (found.parent.stat().st_mode & 0o077) == 0


def test_a_temporary_folder_of_somebody_else_is_not_used(home):
    home.write_text("a file")
    (home.parent / f"relatent-{os.geteuid()}").symlink_to(home.parent)
    found = cache.cache_folder("a").parent
    assert found.parent == home.parent
    assert found.name.startswith("relatent-")
    assert not found.is_symlink()


@pytest.mark.skipif(not hasattr(os, "setuid") or os.geteuid() != 0, reason="only the superuser can become another user")
@pytest.mark.parametrize("home", [None, "/", "/root"])
def test_a_user_without_a_home(home):
    """As in containers that run under a number."""
    code = (
        "import os, sys, tempfile, logging; from relatent.engine.calibration.cache import cache_folder, read_tensors; "
        "os.setuid(54321); found = cache_folder('a'); print(found); print(read_tensors(found / 'none.pt'))"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment | ({"HOME": home} if home else {})
    )
    assert done.returncode == 0, done.stderr
    place, nothing = done.stdout.split()
    assert nothing == "None"
    assert Path(place).parent.name.startswith("relatent-")
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be written to" in done.stderr


def test_a_run_in_a_home_that_is_none(photographs, tmp_path, vae_folder):
    (tmp_path / "home").write_text("a file")
    environment = {
        key: value for key, value in os.environ.items() if key not in ("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR")
    }
    environment |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path), "MPLCONFIGDIR": str(tmp_path)}
    done = relatent_process(
        "optimize", photographs, tmp_path / "out", "--vae", vae_folder, "--size", "32", "--iterations", "1",
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cannot be written to (Not a directory)" in only_line(done.stderr)
    assert relatent_process("info", tmp_path / "out", env=environment).stderr == ""
