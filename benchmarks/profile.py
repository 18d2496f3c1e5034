"""Profiles of an iteration: GPU utilisation and kernels of a captured loop, milliseconds per layer of an eager pass."""

from collections import defaultdict
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ..engine.autoencoders.rewrite import prepare
from ..engine.optimization.runners import Runner
from .bench_step import Problem


def busy_share(runner: Runner, iterations: int, device: torch.device, replays: int = 5) -> dict[str, Any]:
    """Return the profile of a captured loop.

    `busy_share`: fraction of the time from the start of the first kernel to the end of the last one in which a kernel
    runs. `kernels`: milliseconds per iteration by kernel name, of those that take longest. `calls`: how often an
    iteration launches each of them. `kernels_per_iteration`: how many it launches in all.
    Raises `RuntimeError` where a replay synchronises with the host.
    """
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        runner.run(iterations)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        runner.run(iterations * replays)
        torch.cuda.synchronize(device)
    spans = device_spans(trace)
    if not spans:
        return {"busy_share": None, "kernels": {}}
    by_name: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for begin, end, name in spans:
        by_name[name[:100]] += (end - begin) / 1e3 / (iterations * replays)
        calls[name[:100]] += 1
    longest = dict(sorted(by_name.items(), key=lambda item: -item[1])[:25])
    return {
        "busy_share": busy_microseconds(spans) / (max(end for _, end, _ in spans) - spans[0][0]),
        "kernels_per_iteration": len(spans) / (iterations * replays),
        "kernels": longest,
        "calls": {name: calls[name] / (iterations * replays) for name in longest},
    }


Span = tuple[float, float, str]  # begin and end in microseconds, and the name of what ran on the GPU


def device_spans(trace: profile) -> list[Span]:
    """Return what ran on the GPU during a profile, sorted by its begin."""
    return sorted(
        (e.time_range.start, e.time_range.end, e.name) for e in trace.events() if e.device_type.name == "CUDA"
    )


def busy_microseconds(spans: list[Span]) -> float:
    """Return for how long at least one of the spans, sorted by their begin, was running."""
    busy, reached = 0.0, float("-inf")
    for begin, end, _ in spans:
        busy += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return busy


@torch.no_grad()
def layers(problem: Problem, size: int, batch: int) -> dict[str, float]:
    """Return the milliseconds of each layer's forward pass by name, in bf16, eager, on the decoder as published."""
    module = prepare(problem.decoder, torch.bfloat16, ())
    latents = problem.batch(batch, size)[0].bfloat16().contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        module(latents)
    times: dict[str, float] = {}
    cuda = problem.device.type == "cuda"
    activity = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    stack: list[Any] = []
    handles = []
    for name, layer in module.named_modules():
        if next(layer.children(), None) is None:
            handles.append(layer.register_forward_pre_hook(lambda m, x, n=name: stack.append(torch.profiler.record_function(f"layer {n}").__enter__())))  # fmt: skip
            handles.append(layer.register_forward_hook(lambda m, x, y: stack.pop().__exit__(None, None, None)))
    try:
        with profile(activities=list({ProfilerActivity.CPU, activity})) as trace:
            module(latents)
            if cuda:
                torch.cuda.synchronize(problem.device)
    finally:
        for handle in handles:
            handle.remove()
    for event in trace.key_averages():
        if event.key.startswith("layer "):
            total = event.device_time_total if cuda else event.cpu_time_total
            times[event.key.removeprefix("layer ")] = total / 1e3
    return dict(sorted(times.items(), key=lambda item: -item[1])[:40])
