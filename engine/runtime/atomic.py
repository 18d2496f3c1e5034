"""Atomic writes: a file appears under its final name only once it is complete and flushed to the disk."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOST = (errno.EIO, errno.ENOSPC, errno.EDQUOT)  # what was written is not on the disk


def temporary_name(final: Path) -> Path:
    """Return a temporary name in the folder of `final`, so that the rename stays inside one file system; the suffix is
    kept.
    """
    return final.with_name(f".{final.stem}.partial-{os.getpid()}{final.suffix}")


def publish(temporary: Path, final: Path) -> None:
    """Flush `temporary`, a file or a folder, to the disk and rename it to `final`, replacing what is there."""
    for file in [temporary] if temporary.is_file() else temporary.rglob("*"):
        if file.is_file():
            _sync(file)
    if temporary.is_dir() and final.exists():
        old = final.with_name(f".{final.name}.old-{os.getpid()}")
        os.rename(final, old)
        os.rename(temporary, final)
        shutil.rmtree(old)
    else:
        os.replace(temporary, final)
    _sync(final.parent)


def discard(temporary: Path) -> None:
    """Remove what an abandoned write left behind."""
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield the name to write a file under; publish it when the block succeeds, remove it otherwise."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(final)
    try:
        yield temporary
        publish(temporary, final)
    finally:
        discard(temporary)


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (no NaN or infinity) atomically."""
    with atomic_path(path) as temporary:
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        # a path may hold bytes that are no UTF-8, as surrogates: JSON's own escape for them is that of Python
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 digest of the file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in LOST:
            raise
        # some network file systems refuse to flush folders
    finally:
        os.close(descriptor)
