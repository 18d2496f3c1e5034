"""Seconds and memory of one training step of the 3-D VQ-VAE of full size: forward, backward, clipping, optimiser.

    python -m relatent.benchmarks.anomaly.step [--sides 32 64 128] [--batches 1 4] [--precisions fp32 bf16] [--steps 3]

Each combination runs in a process of its own, whose peak of resident memory is its own; what that process holds before the model is
made stands beside it. bf16 is autocast, as `training.precision=bf16-mixed`. Threads are those of torch: OMP_NUM_THREADS sets them.
Writes benchmarks/results/anomaly_step-*.json.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from ..results import FOLDER, command_line, run_main, write_result
from ..timing import measure

PARAMETERS = 11_602_784
MEASURE = "--measure"  # the option of the processes that this one starts


def measure_step(side: int, batch: int, precision: str, steps: int) -> dict[str, Any]:
    """Measure in this process. Returns seconds (p20, median, p80), bytes of resident memory, and the first step's loss.

    The first step is not timed: it gives the codes and makes the optimiser's state.
    """
    import torch.nn.functional as F

    from ...engine.runtime.device import computes_in_bf16, limit_threads
    from ...systems.anomaly.model.configuration import VQVAEConfig
    from ...systems.anomaly.training.lightning_module import VQVAEModule
    from ...systems.anomaly.training.settings import TrainingSettings

    limit_threads()
    before = peak_memory()
    settings = TrainingSettings()
    module = VQVAEModule(VQVAEConfig(), settings).train()
    optimizer = module.configure_optimizers()["optimizer"]
    if (count := sum(each.numel() for each in module.parameters())) != PARAMETERS:
        raise AssertionError(f"the model has {count} parameters, expected {PARAMETERS}")
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, 1, side, side, side, generator=generator)
    losses = []

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            out = module.model(x)
            loss = F.l1_loss(out.reconstruction.float(), x) + out.vq_loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), settings.gradient_clip)
        optimizer.step()
        losses.append(loss.item())

    torch.manual_seed(0)  # of the dropout: the first loss is the same in every precision but for rounding
    seconds = measure(step, torch.device("cpu"), steps, warm_up=1)
    if not all(map(torch.isfinite, map(torch.tensor, losses))):
        raise AssertionError(f"a loss is not finite: {losses}")
    return {
        "seconds": seconds,
        "seconds_per_volume": seconds["median"] / batch,
        "peak_bytes": peak_memory(),
        "bytes_before": before,
        "first_loss": losses[0],
        "threads": torch.get_num_threads(),
        "bf16_in_hardware": computes_in_bf16(torch.device("cpu")),
    }


def peak_memory() -> int:
    """The most resident memory of this process so far, in bytes.

    `getrusage` would count what the process that started this one held.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes


def measure_apart(row: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """`measure_step` in a new process; `failed` where it does not end well, such as for want of memory."""
    command = [sys.executable, "-m", "relatent.benchmarks.anomaly.step", MEASURE, json.dumps({**row, "steps": steps})]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {**row, "failed": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    return {**row, **json.loads(done.stdout.splitlines()[-1])}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row for each combination."""
    lines = ["| side | batch | precision | s / step | s / volume | peak GiB | first loss |", "|" + " --- |" * 7]
    for row in rows:
        named = f"| {row['side']}³ | {row['batch']} | {row['precision']} | "
        if "failed" in row:
            lines.append(f"{named}{row['failed']} | | | |")
            continue
        memory = row["peak_bytes"] / 2**30
        values = f"{row['seconds']['median']:.2f} | {row['seconds_per_volume']:.2f} | {memory:.2f} | {row['first_loss']:.4f} |"
        lines.append(named + values)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 64, 128], metavar="N", help="multiples of 16")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4], metavar="N")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--steps", type=int, default=3, metavar="N", help="timed ones of each (default: 3)")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR")
    parser.add_argument(MEASURE, metavar="JSON", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure_step(**json.loads(options.measure))))
        return
    rows: list[dict[str, Any]] = []
    for side, batch, precision in product(options.sides, options.batches, options.precisions):
        rows.append(measure_apart({"side": side, "batch": batch, "precision": precision}, options.steps))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    content = {"parameters": PARAMETERS, "steps": options.steps, "rows": rows}
    print(
        write_result("anomaly_step", torch.device("cpu"), command_line("anomaly.step", arguments), content, options.out)
    )
    print(table(rows))


if __name__ == "__main__":
    run_main(main)
