"""Where and how precisely a run computes."""

import os
from typing import Any

import torch

from ..errors import UsageError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """`auto` is the first of CUDA, MPS, CPU that is there. Raises `UsageError` for one that is not."""
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
    """`auto` is bf16 on a device that computes in it, fp32 everywhere else. -> fp32, bf16 or fp16."""
    if precision != "auto":
        return precision
    return "bf16" if computes_in_bf16(device) else "fp32"


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware; where it only emulates it, fp32 is faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def usable_processors() -> int:
    """What this process may use: its affinity, and its control group's quota, which torch does not look at."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        if quota != "max":
            count = min(count, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no control group, or one of the older kind
    return max(1, count)


def limit_threads() -> None:
    """For a process of our own: no more threads than it may use, since waiting ones cost more than they bring."""
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > usable_processors():
        torch.set_num_threads(usable_processors())


def describe_device(device: torch.device) -> dict[str, Any]:
    """Name, memory and threads, for a run's record."""
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
