"""The command: plans the cells, has them measured within the budget, and keeps the results."""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ...engine.errors import RelatentError
from ...engine.runtime.device import resolve_device, usable_processors
from ..results import command_line
from .pool import default_jobs, measure_all, measure_here
from .section import Cell, Rates, Result
from .sections import SECTIONS
from .store import Store


def main(arguments: list[str] | None = None) -> int:
    """Run the command; exit status 1 where a section failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the JSON files go")
    parser.add_argument("--budget", type=float, default=500.0, metavar="S", help="seconds in all (default: 500)")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="NAME", help=", ".join(SECTIONS))  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--jobs", type=int, help="cells prepared at once; 0: all in this process (default: by processors)")  # fmt: skip
    parser.add_argument("--cache", type=Path, metavar="DIR", help="compiled code of earlier runs (default: OUT/cache)")
    options = parser.parse_args(arguments)
    begin = time.monotonic()
    try:
        device = resolve_device(options.device)
    except RelatentError as error:
        print(error, file=sys.stderr)
        return 2
    jobs = options.jobs if options.jobs is not None else default_jobs() if device.type == "cuda" else 0
    store = Store(options.out, device, command_line("gpu", arguments), options.quick)
    cells = plan(options.sections, device, options.quick, store)
    with environment((options.cache or options.out / "cache").resolve(), jobs):
        _measure(cells, device, options.quick, begin + options.budget, jobs, store)
    found = store.summary(budget_seconds=options.budget, seconds=time.monotonic() - begin, jobs=jobs)
    for kind in ("skipped", "errors"):
        for name, why in found[kind].items():
            print(f"{kind}: {name}: {why}")
    print(f"{sum(map(len, found['measured'].values()))} cells measured in {found['seconds']:.0f} s: {options.out}")
    return 1 if found["errors"] else 0


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
        print(f"{cell.section}: {cell.name}: {result.get('error', 'measured')}", flush=True)

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
