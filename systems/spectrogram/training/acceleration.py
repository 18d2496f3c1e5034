"""Where a training runs: one device, or several processes that accelerate or torchrun has launched."""

import os
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs

from ....engine.errors import UsageError
from ....engine.runtime.device import resolve_device

TIMEOUT = timedelta(hours=6)  # the main process encodes spectrograms and draws sample grids while the others wait


def make_accelerator(device: str = "auto", mixed_precision: str = "no") -> Accelerator:
    """Return the accelerator of a training.

    device: as `resolve_device` takes it. Where a launcher has started several processes each takes a GPU of its own, or they share the
    CPU: device is then auto, cuda or cpu. Raises `UsageError` for a device that is not there, for one that says something else than the
    launcher, and for fp16 on a CPU.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    forced = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true")  # by `accelerate launch --cpu`
    kind = device.partition(":")[0]
    if processes > 1 and device not in ("auto", "cuda", "cpu"):
        raise UsageError(
            f"device {device} is one for all {processes} launched processes; give auto, cuda or cpu, or launch one process"
        )
    if forced and kind not in ("auto", "cpu"):
        raise UsageError(
            f"device {device}: the processes were launched with --cpu; give auto or cpu, or leave out --cpu"
        )
    where = resolve_device("cpu" if forced else device)
    if mixed_precision == "fp16" and where.type == "cpu":
        raise UsageError("mixed_precision fp16 needs a GPU; give bf16 or no")
    # accelerate keeps one state for the whole Python process, and refuses a second training of another precision or device
    together = processes > 1 and PartialState._shared_state != {}
    AcceleratorState._reset_state(reset_partial_state=not together)
    accelerator = Accelerator(
        mixed_precision=mixed_precision,
        cpu=where.type == "cpu",
        # given as an object so that the launcher's environment does not divide the loss a second time
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=TIMEOUT)],
    )
    if processes == 1 and where.index is not None:
        accelerator.state.device = where  # cuda:1
    if accelerator.device.type == "cuda":
        torch.cuda.set_device(accelerator.device)
    return accelerator


def share(accelerator: Accelerator, rows: int) -> slice:
    """The rows of an update, of `rows` in all, that are this process's. Raises `UsageError` where some process would have none."""
    count, index = accelerator.num_processes, accelerator.process_index
    if rows < count:
        raise UsageError(
            f"{count} processes cannot share an update of {rows}; launch fewer, or give a larger batch_size"
        )
    return slice(rows * index // count, rows * (index + 1) // count)
