"""Atomic writes where the disk refuses to keep what was written."""

import errno
import os

import pytest
from relatent.engine.runtime.atomic import atomic_path


@pytest.mark.parametrize(("code", "lost"), [(errno.ENOSPC, True), (errno.EIO, True), (errno.EINVAL, False)])
def test_what_the_disk_does_not_keep_is_not_published(tmp_path, monkeypatch, code, lost):
    """Some file systems say only when a file is flushed that they are full; others cannot flush folders, which is no loss."""

    def fsync(descriptor):
        raise OSError(code, os.strerror(code))

    (tmp_path / "file").write_text("older")
    monkeypatch.setattr(os, "fsync", fsync)
    if lost:
        with pytest.raises(OSError, match=os.strerror(code)), atomic_path(tmp_path / "file") as path:
            path.write_text("newer")
        assert os.listdir(tmp_path) == ["file"]
        assert (tmp_path / "file").read_text() == "older"
    else:
        with atomic_path(tmp_path / "file") as path:
            path.write_text("newer")
        assert (tmp_path / "file").read_text() == "newer"
