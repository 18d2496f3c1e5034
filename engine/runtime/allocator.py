"""Settings of the C library's allocator for processes that compute on a CPU."""

import ctypes
import os
import sys
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h
LARGEST_INT = 2**31 - 1
SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
MOST_KEPT = 2**30  # bytes: more than pictures of 512² free between two iterations

_library: Any = None  # the C library, once this process keeps what it frees


class _Mallinfo2(ctypes.Structure):
    """struct mallinfo2 of glibc's malloc.h."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keep")
    )  # fmt: skip


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees for its next tensors; return whether that was set.

    By default glibc gives large blocks back to the kernel, which must then map and clear them again page by page. The setting
    takes more memory, is the whole process's and cannot be undone: a program calls this at its start, a library does not.
    Nothing is set on other systems than Linux, with a C library other than glibc 2.33 or newer, or where the user has set one
    of glibc's own variables (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_MAX_`, `MALLOC_MMAP_THRESHOLD_`, `GLIBC_TUNABLES`).
    """
    global _library
    if sys.platform != "linux" or any(name in os.environ for name in SET_BY_USER):
        return False
    library = ctypes.CDLL(None)
    if not all(hasattr(library, name) for name in ("mallopt", "malloc_trim", "mallinfo2")):  # glibc 2.33 has them all
        return False
    library.mallinfo2.restype = _Mallinfo2
    kept = bool(library.mallopt(M_MMAP_MAX, 0)) and bool(library.mallopt(M_TRIM_THRESHOLD, LARGEST_INT))
    _library = library if kept else None
    return kept


def keeps_freed_memory() -> bool:
    """Whether this process keeps what it frees."""
    return _library is not None


def limit_freed_memory(most: int = MOST_KEPT) -> None:
    """Give the memory that is kept and not used back to the system where it is more than `most` bytes, as after pictures of
    many sizes, whose blocks do not fit each other. Does nothing where `keep_freed_memory` has set nothing."""
    if _library is not None and _library.mallinfo2().fordblks > most:
        _library.malloc_trim(0)
