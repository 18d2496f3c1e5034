"""What a path leads to: only regular files are opened, since a named pipe may keep its reader waiting for ever."""

import os
import stat
from pathlib import Path

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_of_file(path: str | Path) -> str | None:
    """Return what stands at `path` where it is no regular file, such as "a named pipe"; None for a regular file.

    Nothing is opened: opening a named pipe may wait for ever. Raises `OSError` where there is nothing.
    """
    mode = os.stat(path).st_mode
    return None if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "something else")
