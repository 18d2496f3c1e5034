"""Peak memory, and how many images at once are worth their memory."""

import os
import sys
from collections.abc import Callable

import torch

MIN_SPEEDUP = 0.97  # a doubled batch must bring the time per image under this fraction of what it was
MAX_BATCH = 64


def peak_memory(device: torch.device) -> int:
    """Bytes: on CUDA what torch had allocated at most since the process began, else the process's largest size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def available_memory() -> int | None:
    """Bytes of main memory that programs can still have; None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # no Linux
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def fastest_batch_size(seconds: Callable[[int], float], count: int) -> int:
    """The batch size, a power of two and no larger than `count` needs, after which doubling brings no more speed.

    seconds: of one iteration of a batch; raises `torch.OutOfMemoryError` where it does not fit. At least 1.
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
