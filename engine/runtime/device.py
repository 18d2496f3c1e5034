"""Choice of device, precision and number of threads."""

import os
from typing import Any

import torch

from ..errors import UsageError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """Return the device of that name; `auto` is the first of CUDA, MPS and CPU that is available.

    Raises `UsageError` for a device that is unknown or not available.
    """
    if str(name) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _mps() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}; expected auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device {name!r} is not there: {torch.cuda.device_count()} CUDA devices found; use auto or cpu"
        )
    if device.type == "mps" and not _mps():
        raise UsageError("device 'mps' is not there: this machine has no Metal; use auto or cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"device {name!r} is not supported; expected auto, cpu, cuda, cuda:1 or mps")
    return device


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return fp32, bf16 or fp16; `auto` is bf16 on a device that computes bf16 in hardware, fp32 everywhere else."""
    if precision != "auto":
        return precision
    return "bf16" if computes_in_bf16(device) else "fp32"


def computes_in_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bf16 in hardware; where it only emulates bf16, fp32 is faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def usable_processors() -> int:
    """Return how many processors this process may use: the lower of its CPU affinity and its cgroup quota, which torch
    ignores.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        if quota != "max":
            count = min(count, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no cgroup, or cgroup v1
    return max(1, count)


def limit_threads() -> None:
    """Limit torch to the processors that this process may use, unless OMP_NUM_THREADS is set: threads in excess only
    wait and slow the others down. To be called in processes that the package starts itself.
    """
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > usable_processors():
        torch.set_num_threads(usable_processors())


def describe_device(device: torch.device) -> dict[str, Any]:
    """Return the device, the machine and the number of threads, and on CUDA also the memory (GiB), for `run.json`."""
    import platform

    record: dict[str, Any] = {"device": str(device), "machine": platform.machine(), "threads": torch.get_num_threads()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        record |= {
            "name": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "capability": f"{properties.major}.{properties.minor}",
        }
    else:
        record |= {"name": _processor_name()}
    return record


def _processor_name() -> str:
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _mps() -> bool:
    return torch.backends.mps.is_available()
