"""The command: plans the cells, has them measured within the budget, and keeps the results."""

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ...engine.errors import RelatentError
from ...engine.runtime.device import resolve_device, usable_processors
from ..results import command_line
from .pool import default_jobs, measure_all, measure_here
from .section import Cell, Rates, Result
from .sections import SECTIONS
from .store import Store

logger = logging.getLogger(__name__)

BUDGET = 500.0  # seconds


def main(arguments: list[str] | None = None) -> int:
    """Run the command; exit status 1 where a section failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the JSON files go")
    parser.add_argument("--budget", type=float, default=BUDGET, metavar="S", help="seconds in all (default: 500)")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="NAME", help=", ".join(SECTIONS))  # fmt: skip
    parser.add_argument("--cells", nargs="+", metavar="TEXT", help="only cells whose names hold one of these")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--jobs", type=int, help="cells prepared at once; 0: all in this process (default: by processors)")  # fmt: skip
    parser.add_argument("--cache", type=Path, metavar="DIR", help="compiled code of earlier runs (default: OUT/cache)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        found = run(options.out, options.device, options.budget, options.quick, options.sections, options.jobs, options.cache, options.cells)  # fmt: skip
    except RelatentError as error:
        print(error, file=sys.stderr)
        return 2
    print(as_text(found))
    return 1 if found["errors"] else 0


def run(
    out: Path, device: str = "auto", budget: float = BUDGET, quick: bool = False, sections: Sequence[str] = tuple(SECTIONS),
    jobs: int | None = None, cache: Path | None = None, cells: Sequence[str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure the sections, write their JSON files to `out`, and return the summary, which is written too.

    device: as `resolve_device` takes it. budget: seconds in all. quick: tiny sizes. jobs: cells prepared at once, each in
    a process; 0: all in this one; None: by the processors on a GPU, 0 on a CPU. cache: folder of compiled code; None:
    `out`/cache. cells: only those whose names hold one of these; the ceilings in any case. Raises `UsageError` for a device that
    is not there.
    """
    begin, where = time.monotonic(), resolve_device(device)
    if jobs is None:
        jobs = default_jobs() if where.type == "cuda" else 0
    options = ["--out", str(out), "--budget", f"{budget:g}", *(["--quick"] if quick else []), "--sections", *sections]
    options += ["--cells", *cells] if cells else []
    store = Store(out, where, command_line("gpu", options), quick)
    planned = plan(sections, where, quick, store)
    if cells:
        planned = [cell for cell in planned if cell.section == "ceilings" or any(text in cell.name for text in cells)]
    with environment((cache or out / "cache").resolve(), jobs):
        _measure(planned, where, quick, begin + budget, jobs, store)
    return store.summary(budget_seconds=budget, seconds=time.monotonic() - begin, jobs=jobs)


def as_text(found: dict[str, Any]) -> str:
    """Return the summary as lines: what was skipped, what failed, and how much was measured."""
    lines = [f"{kind}: {name}: {why}" for kind in ("skipped", "errors") for name, why in found[kind].items()]
    measured = sum(map(len, found["measured"].values()))
    return "\n".join([*lines, f"{measured} cells measured in {found['seconds']:.0f} s"])


def plan(names: Sequence[str], device: torch.device, quick: bool, store: Store) -> list[Cell]:
    """Return the cells of the sections, in the order of `SECTIONS`; those that this device cannot run are skipped."""
    cells = []
    for name, section in SECTIONS.items():
        for cell, seconds, arguments in section.cells(quick) if name in names else ():
            if section.NEEDS_GPU and device.type != "cuda":
                store.skip(name, cell, section.NEEDS_GPU)
            else:
                cells.append(Cell(name, cell, seconds, arguments))
    if "ceilings" in names:
        cells.append(Cell("ceilings", "last", 5.0))
    return cells


def _measure(cells: list[Cell], device: torch.device, quick: bool, deadline: float, jobs: int, store: Store) -> None:
    def found(cell: Cell, result: Result) -> None:
        store.add(cell, result)
        logger.info("%s: %s: %s", cell.section, cell.name, result.get("error", "measured"))

    def rates() -> Rates:
        first = store.sections.get("ceilings", {"cells": {}})["cells"].get("first")
        return None if first is None or "error" in first else first

    if jobs:
        skipped = measure_all(cells, device, quick, deadline, jobs, found, rates)
    else:
        skipped = []
        for cell in cells:
            if time.monotonic() > deadline:
                skipped.append(cell)
            else:
                found(cell, measure_here(SECTIONS[cell.section], cell, device, quick, rates()))
    for cell in skipped:
        store.skip(cell.section, cell.name, "no time was left")


@contextlib.contextmanager
def environment(cache: Path, jobs: int) -> Iterator[None]:
    """Let this process and those that it starts keep compiled code and what is measured once per decoder in `cache`, and
    share the processors."""
    share = max(1, usable_processors() // max(1, jobs))
    wanted = {
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "XDG_CACHE_HOME": str(cache),
        "TORCHINDUCTOR_COMPILE_THREADS": str(1 + share),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(share)),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
