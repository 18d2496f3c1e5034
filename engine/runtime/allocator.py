"""A setting of the C library's allocator for processes that compute on a CPU."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h
LARGEST_INT = 2**31 - 1
SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees for its next tensors; return whether that was set.

    By default glibc gives large blocks back to the kernel, which must then map and clear them again page by page. It holds for
    the whole process, so that a program calls it at its start, not a library. Nothing is set on other systems, with another
    C library, or where the user has set glibc's own variables.
    """
    if sys.platform != "linux" or any(name in os.environ for name in SET_BY_USER):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST_INT))
