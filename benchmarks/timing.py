"""Timing on any device, by CUDA events or a clock: p20, median and p80."""

import time
from collections.abc import Callable, Mapping, Sequence

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
    return quantiles(seconds)


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Return p20, median and p80."""
    found = torch.tensor(values, dtype=torch.float64).quantile(torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64))
    return dict(zip(("p20", "median", "p80"), found.tolist(), strict=True))


def alternate(
    functions: Mapping[str, Callable[[], object]], device: torch.device, repeats: int = 5
) -> dict[str, list[float]]:
    """Return the seconds of each function, by name, of `repeats` rounds in which they are called in turn, after one round
    that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats + 1):
        for name, function in functions.items():
            begin = now(device)
            function()
            seconds[name].append(now(device) - begin)
    return {name: values[1:] for name, values in seconds.items()}


def ceilings(device: torch.device, small: bool = False, warm_seconds: float = 0.0) -> dict[str, float]:
    """Return what this device achieves: copy bandwidth (bytes read plus written, per second) and bf16 matmul FLOP/s.

    warm_seconds: how long each runs before it is timed, for clocks as they are sustained.
    """
    count = 2**20 if small else 2**29
    source = torch.randn(count, device=device, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    _warm_up(lambda: target.copy_(source), device, warm_seconds)
    copy = measure(lambda: target.copy_(source), device)["median"]
    side = 256 if small else 8192
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    _warm_up(lambda: a @ b, device, warm_seconds)
    product = measure(lambda: a @ b, device)["median"]
    return {"copy_bytes_per_second": 2 * 2 * count / copy, "bf16_flops_per_second": 2 * side**3 / product}


def _warm_up(function: Callable[[], object], device: torch.device, seconds: float) -> None:
    begin = now(device)
    while now(device) - begin < seconds:
        for _ in range(20):
            function()
