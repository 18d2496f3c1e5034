"""The figures of compiled steps as text, as a results file, and as the table of docs/codegen.md."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ...exporters.summaries.markdown import markdown_table
from ..results import FOLDER, command_line, replace_table, write_result

PAGE = Path(__file__).parents[2] / "docs" / "codegen.md"
LISTED = 20  # kernels in a results file
STRIDE_1 = "transposed, stride 1"


def as_text(found: dict[str, Any], kernels: int = 12) -> str:
    """Return the figures, the kernels that move most, and the largest buffers, one a line."""
    moved, values = found["bytes"], found["activation_values"]
    lines = [
        f"graphs {found['graphs']}, launches {found['launches']} ({found['triton_kernels']} of Triton kernels)",
        f"moved {_gb(sum(moved.values()))}, without convolutions {_gb(found['bytes_without_convolutions'])}: "
        + ", ".join(f"{kind} {_gb(size)}" for kind, size in moved.items()),
        f"peak of the buffers {_gb(found['peak_bytes'])}, weights and state {_gb(found['argument_bytes'])}",
        f"fp32 buffers of activation size ({values} values or more) {found['fp32_activations']}, "
        f"results stored twice {found['stored_twice']}, CPU tensors {found['cpu_tensors']}",
        f"attention: {', '.join(found['attention']) or 'none'}",
        "convolutions: " + ", ".join(f"{count} {detail}" for detail, count in found["convolutions"].items()),
        "operators: " + ", ".join(f"{count} {name}" for name, count in found["extern_kernels"].items()),
        "kernels that move most:",
        *(f"  {_gb(row['bytes'])} in {row['launches']:3} {row['name']}" for row in found["kernels"][:kernels]),
        "largest buffers:",
        *(f"  {count:3} × {dtype} {'×'.join(map(str, shape))}" for dtype, shape, count in found["buffers"][:kernels]),
    ]
    return "\n".join(lines)


def write(steps: dict[str, dict[str, Any]]) -> Path:
    """Write the figures of the steps, by name, for this version of torch; make the table anew, and return the path."""
    short = ".".join(version("torch").split(".")[:2])
    content = {"triton": version("triton"), "steps": {name: _shortened(found) for name, found in steps.items()}}
    command = command_line("codegen", ["--write"])
    path = write_result(f"codegen-torch{short}", torch.device("cpu"), command, content)
    replace_table("codegen", table(), PAGE)
    return path


def table(folder: Path = FOLDER) -> str:
    """Return the figures of all results files as a Markdown table."""
    heading = (
        "torch, Triton", "step", "launches", "moved without convolutions", "convolutions", "peak", "fp32 activations",
        "stored twice", STRIDE_1,
    )  # fmt: skip
    rows = []
    for path in sorted(folder.glob("codegen-*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        versions = f"{content['versions']['torch'].split('+')[0]}, {content['triton']}"
        for name, found in content["steps"].items():
            rows.append([
                versions, name, found["launches"], _gb(found["bytes_without_convolutions"]), _gb(found["bytes"]["convolution"]),
                _gb(found["peak_bytes"]), found["fp32_activations"], found["stored_twice"],
                found["convolutions"].get(STRIDE_1, 0),
            ])  # fmt: skip
    return markdown_table(heading, rows)


def _shortened(found: dict[str, Any]) -> dict[str, Any]:
    return found | {"kernels": found["kernels"][:LISTED], "buffers": found["buffers"][:LISTED]}


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
