"""`SHA256SUMS`, as `sha256sum -c` reads it, and what in a folder is not covered by it."""

import hashlib
import os
from pathlib import Path

SUMS = "SHA256SUMS"


def sha256(path: Path) -> str:
    """Hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def foreign_files(folder: Path) -> list[str]:
    """Relative names of files, links included, that are not in the folder's `SHA256SUMS` or no longer what they were.

    A file is read only where it is younger than the checksums, which are written last.
    """
    sums = folder / SUMS
    try:
        lines = sums.read_text(encoding="utf-8").splitlines()
        written = sums.stat().st_mtime_ns
    except (OSError, UnicodeDecodeError):
        return [SUMS]
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = []
    for here, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(here, name))]
        for name in (*files, *links):
            path = Path(here, name)
            relative = path.relative_to(folder).as_posix()
            ours = relative == SUMS or (relative in listed and not path.is_symlink())
            if not ours or (path.stat().st_mtime_ns > written and sha256(path) != listed.get(relative)):
                found.append(relative)
    return sorted(found)
