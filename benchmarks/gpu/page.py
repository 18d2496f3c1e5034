"""The tables of docs/gpu.md and of the README, from the results of the command.

    python -m relatent.benchmarks.gpu.page benchmarks/results/gpu-nvidia-h200

The folder is what `python -m relatent.benchmarks.gpu --out` has written. What was not measured is not in the tables.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..results import README, replace_table, run_main

PAGE = README.parent / "docs" / "gpu.md"
MORE = ("× eager bf16", "GPU busy")  # columns of the page alone
IN_README = ("production", "production, thinned", "compiled as published")


def iteration_table(cells: dict[str, dict[str, Any]], brief: bool = False) -> str:
    """Return one row per size, batch and form. cells: of iteration.json. brief: fewer columns, the forms of `IN_README` only."""
    rows: list[list[str]] = []
    names: list[str] = []
    for cell in cells.values():
        if "error" in cell or (brief and cell["form"] not in IN_README):
            continue
        measured = isinstance(cell["gain_db"], float)
        row = {
            "pictures": f"{cell['batch']} of {cell['size']}²",
            "form": cell["form"],
            "ms / picture": f"{1e3 * cell['seconds_per_image']:.1f}",
            "× the original's loop": f"{cell['times_the_original']['median']:.2f}",
            "× eager bf16": f"{cell['times_eager_bf16']['median']:.2f}",
            "of the matrix rate": f"{cell['share_of_matrix_rate']:.0%}" if "share_of_matrix_rate" in cell else "-",
            "peak": f"{cell['peak_allocated_bytes'] / 1e9:.1f} GB",
            "GPU busy": f"{cell['busy_share']:.1%}" if "busy_share" in cell else "-",
            "gain, the original's": f"{cell['gain_db']:+.1f} dB, {cell['original_gain_db']:+.1f} dB"
            if measured
            else "-",
        }
        names = [name for name in row if not (brief and name in MORE)]
        rows.append([row[name] for name in names])
    return "\n".join("| " + " | ".join(line) + " |" for line in [names, ["---"] * len(names), *rows])


def attention_table(cells: dict[str, dict[str, Any]]) -> str:
    """Return one row per shape and way. cells: of attention.json."""
    lines = ["| pictures | way | forward | with gradient | memory | error |", "| --- " * 6 + "|"]
    for name, cell in cells.items():
        for way, row in cell.get("rows", {}).items():
            if "error" in row:  # out of memory
                continue
            forward, both = (1e3 * row[key]["median"] for key in ("forward_seconds", "forward_and_gradient_seconds"))
            lines.append(
                f"| {name} | {way} | {forward:.2f} ms | {both:.2f} ms | {row['bytes'] / 1e6:.0f} MB | {row['difference']:.1e} |"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(arguments).folder
    found = {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["cells"] for name in ("iteration", "attention")}  # fmt: skip
    replace_table("iteration", iteration_table(found["iteration"]), PAGE)
    replace_table("attention", attention_table(found["attention"]), PAGE)
    replace_table("gpu", iteration_table(found["iteration"], brief=True))


if __name__ == "__main__":
    run_main(main)
