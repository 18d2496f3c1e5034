"""The figures of a compiled step, from what was recorded of it."""

import math
from collections import Counter
from typing import Any

import torch

from .launches import Launch, Recorder


def summarise(recorders: list[Recorder]) -> dict[str, Any]:
    """Return the figures of all compiled graphs of one step, JSON-ready; bytes are of one step of the whole batch.

    An activation is as large as the smallest output of a convolution, those of a few channels left out; it is the measure
    of `fp32_activations` and `stored_twice`.
    """
    launches = [launch for recorder in recorders for launch in recorder.launches]
    buffers = [buffer for recorder in recorders for buffer in recorder.buffers]
    activation = min((size for recorder in recorders for size in recorder.activations), default=0)
    moved: Counter[str] = Counter()
    for launch in launches:
        moved[launch.kind] += launch.read + launch.written
    sizes = Counter((str(dtype).removeprefix("torch."), shape) for dtype, shape in buffers)
    return {
        "graphs": len(recorders),
        "launches": len(launches),
        "triton_kernels": sum(launch.triton for launch in launches),
        "extern_kernels": dict(Counter(launch.name for launch in launches if not launch.triton).most_common()),
        "bytes": dict(moved.most_common()),
        "bytes_without_convolutions": sum(moved.values()) - moved["convolution"],
        "peak_bytes": max((recorder.peak for recorder in recorders), default=0),
        "argument_bytes": sum(recorder.argument_bytes for recorder in recorders),
        "activation_values": activation,
        "fp32_activations": sum(dtype == torch.float32 and math.prod(shape) >= activation for dtype, shape in buffers),
        "stored_twice": sum(size >= 2 * activation for launch in launches for size in launch.repeated),
        "attention": sorted({launch.name for launch in launches if launch.kind == "attention"}),
        "convolutions": dict(Counter(launch.detail for launch in launches if launch.kind == "convolution")),
        "cpu_tensors": sum(recorder.on_cpu for recorder in recorders),
        "buffers": [[dtype, list(shape), count] for (dtype, shape), count in sorted(sizes.items(), key=_largest)],
        "kernels": _kernels(launches),
    }


def _largest(entry: tuple[tuple[str, tuple[int, ...]], int]) -> int:
    (_, shape), _ = entry
    return -math.prod(shape)


def _kernels(launches: list[Launch]) -> list[dict[str, Any]]:
    """One row per kernel or operator, those that move most first."""
    rows: dict[str, dict[str, Any]] = {}
    for launch in launches:
        row = rows.setdefault(launch.name, {"name": launch.name, "kind": launch.kind, "launches": 0, "bytes": 0})
        row["launches"] += 1
        row["bytes"] += launch.read + launch.written
    return sorted(rows.values(), key=lambda row: -row["bytes"])
