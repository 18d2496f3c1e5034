"""Timing on any device, by CUDA events or a clock: p20, median and p80."""

import time
from collections.abc import Callable

import torch


def now(device: torch.device) -> float:
    """Return the time in seconds, after the device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measure(
    function: Callable[[], object], device: torch.device, repeats: int = 20, warm_up: int = 3
) -> dict[str, float]:
    """Return p20, median and p80 of the seconds of one call, after `warm_up` calls.

    On CUDA each call is enclosed in a pair of events, and all calls are queued before the first event is read. The
    caller chooses inputs larger than the L2 cache.
    """
    for _ in range(warm_up):
        function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
        for begin, end in pairs:
            begin.record()
            function()
            end.record()
        torch.cuda.synchronize(device)
        seconds = [begin.elapsed_time(end) / 1e3 for begin, end in pairs]
    else:
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    p20, median, p80 = torch.tensor(seconds, dtype=torch.float64).quantile(
        torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    )
    return {"p20": p20.item(), "median": median.item(), "p80": p80.item()}


def ceilings(device: torch.device, small: bool = False) -> dict[str, float]:
    """Return what this device achieves: copy bandwidth (bytes read plus written, per second) and bf16 matmul FLOP/s."""
    count = 2**20 if small else 2**29
    source = torch.randn(count, device=device, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    copy = measure(lambda: target.copy_(source), device)["median"]
    side = 256 if small else 8192
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = measure(lambda: a @ b, device)["median"]
    return {"copy_bytes_per_second": 2 * 2 * count / copy, "bf16_flops_per_second": 2 * side**3 / product}
