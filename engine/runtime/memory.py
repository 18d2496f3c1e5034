"""Peak memory, available memory, and the choice of a batch size."""

import os
import sys
from collections.abc import Callable

import torch

MIN_SPEEDUP = 0.97  # Doubling the batch must reduce the time per image below this fraction of the previous one.
MAX_BATCH = 64


def peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes: on CUDA torch's allocator peak since the process began, else the peak resident
    set size.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # The module does not exist on Windows.
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def available_memory() -> int | None:
    """Return the available main memory in bytes; None where the system does not report it."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # not on Linux
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def fastest_batch_size(seconds: Callable[[int], float], count: int) -> int:
    """Return the batch size beyond which doubling brings no more speed: a power of two, or `count` where that is
    smaller, and at least 1.

    seconds: measures one iteration of a batch of the given size, in seconds; it raises `torch.OutOfMemoryError` where
    the batch does not fit.
    """
    best, per_image = 1, None
    size = 1
    while size <= MAX_BATCH and (size == 1 or size < 2 * count):
        try:
            measured = min(seconds(size) for _ in range(2)) / size
        except torch.OutOfMemoryError:
            break
        if per_image is not None and measured > MIN_SPEEDUP * per_image:
            break
        best, per_image = size, measured
        size *= 2
    return min(best, count)
