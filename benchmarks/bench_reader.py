"""Samples per second of a DataLoader on each kind of dataset, through `load_optimized_dataset`, and of h5py alone.

    python -m relatent.benchmarks.bench_reader [--samples 4096] [--passes 3] [--dry]

Random latents without images, as a run with --no-images stores them, are written to a temporary folder. The files are
in the page cache, so that the processor time of reading is measured, not the disk. Writes
benchmarks/results/reader-*.json and the table in docs/files.md; with --dry neither.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader

from ..engine.optimization.config import OptimizationConfig
from ..engine.records import METRICS, Record
from ..engine.version import VERSION
from ..exporters.base.header import Header
from ..exporters.formats.pt import PTExporter
from ..exporters.hdf5.exporter import HDF5Exporter
from ..exporters.hdf5.reading import read_records
from ..exporters.hdf5.virtual import write_virtual
from ..exporters.reader import OptimizedLatentDataset, load_optimized_dataset
from ..factory.state.ledger import now
from ..factory.state.plan import auto_shard_size
from .results import command_line, replace_table, run_main, write_result

PAGE = Path(__file__).parent.parent / "docs" / "files.md"
SHAPES = ((4, 32, 32), (4, 64, 64))
BATCH = 64  # samples
WORKERS = (0, 2)
ITERATIONS = 30
KINDS = {
    "virtual": "`dataset.h5` over shards",
    "merged": "`dataset.h5`, `--single-file`",
    "pt": "`dataset.pt`",
}


def write_datasets(folder: Path, shape: tuple[int, ...], samples: int) -> dict[str, Path]:
    """Write the same samples as every kind of dataset, and return kind -> file."""
    header = Header(now(), VERSION, _identity(shape[0]), OptimizationConfig(iterations=ITERATIONS).to_dict())
    rng = np.random.default_rng(0)
    size = auto_shard_size(samples)
    shards = [folder / "shards" / f"shard-{number:06d}.h5" for number in range(-(-samples // size))]
    for number, path in enumerate(shards):
        rows = range(number * size, min((number + 1) * size, samples))
        with HDF5Exporter(path, header) as exporter:
            exporter.write([_record(f"{row:06d}", shape, rng) for row in rows])
    found = {kind: folder / name for kind, name in (("merged", "merged.h5"), ("pt", "dataset.pt"))}
    for kind, exporter_of in (("merged", HDF5Exporter), ("pt", PTExporter)):
        with exporter_of(found[kind], header) as exporter:
            for path in shards:
                for records in read_records(path):
                    exporter.write(records)
    found["virtual"] = folder / "dataset.h5"
    write_virtual(found["virtual"], shards, header)
    return found


def _identity(channels: int) -> dict[str, Any]:
    return {
        "name": "synthetic",
        "latent_channels": channels,
        "downscale_factor": 8,
        "scaling_factor": 1.0,
        "shift_factor": 0.0,
    }


def _record(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Record:
    initial, optimized = rng.standard_normal((2, *shape), np.float32)
    metrics = dict(zip(METRICS, rng.standard_normal(len(METRICS)).tolist(), strict=True))
    losses = rng.random(ITERATIONS).tolist()
    return Record(initial, optimized, losses, None, "iterations", metrics, name, "all", f"{name}.png", (512, 512))


def check(datasets: dict[str, OptimizedLatentDataset], samples: int) -> None:
    """Raise `RuntimeError` unless all kinds hold the same samples."""
    reference = datasets["pt"]
    for kind, dataset in datasets.items():
        for index in (0, samples // 3, samples - 1):
            one, two = dataset[index], reference[index]
            if one["image_name"] != two["image_name"] or not torch.equal(
                one["optimized_latents"], two["optimized_latents"]
            ):
                raise RuntimeError(f"{kind}: sample {index} is not that of the .pt")


def measure(run: Callable[[], int], samples: int, passes: int) -> dict[str, float]:
    """Return median, least and most samples/s over whole passes, after one warm-up pass that opens files and starts
    workers.
    """
    rates = []
    for _ in range(passes + 1):
        begin = time.perf_counter()
        count = run()
        rates.append(samples / (time.perf_counter() - begin))
        if count != samples:
            raise RuntimeError(f"a pass gave {count} of {samples} samples")
    return {"median": statistics.median(rates[1:]), "least": min(rates[1:]), "most": max(rates[1:])}


def measure_shape(shape: tuple[int, ...], samples: int, passes: int) -> list[dict[str, Any]]:
    """Return one row for each kind, order and number of workers, and for h5py without a DataLoader."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        paths = write_datasets(Path(folder), shape, samples)
        datasets = {kind: load_optimized_dataset(path) for kind, path in paths.items()}
        check(datasets, samples)
        for kind in KINDS:
            for workers in WORKERS:
                for shuffle in (True, False):
                    loader = datasets[kind].create_dataloader(
                        BATCH, shuffle, num_workers=workers, persistent_workers=workers > 0
                    )
                    rate = measure(partial(_pass, loader), samples, passes)
                    rows.append({"kind": kind, "workers": workers, "shuffle": shuffle, "samples_per_second": rate})
        for kind in ("virtual", "merged"):
            for shuffle in (True, False):
                order = np.random.default_rng(1).permutation(samples) if shuffle else np.arange(samples)
                with h5py.File(paths[kind]) as file:
                    rate = measure(partial(_plain, file, order), samples, passes)
                rows.append({"kind": kind, "workers": None, "shuffle": shuffle, "samples_per_second": rate})
    return rows


def _pass(loader: "DataLoader[dict[str, Any]]") -> int:
    return sum(len(batch["image_name"]) for batch in loader)


def _plain(file: h5py.File, order: np.ndarray) -> int:
    columns = [file[name] for name in ("initial_latents", "optimized_latents")]
    return sum(all(column[index].size for column in columns) for index in order)


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| latents | read from | by | shuffled | in order |", "| --- | --- | --- | --- | --- |"]
    for shape, rows in results.items():
        found = {(row["kind"], row["workers"], row["shuffle"]): row["samples_per_second"]["median"] for row in rows}
        for kind, label in KINDS.items():
            for workers in (*WORKERS, None):
                if (kind, workers, True) in found:
                    by = "h5py alone, latents only" if workers is None else f"DataLoader, {workers} workers"
                    cells = " | ".join(f"{found[kind, workers, shuffle]:,.0f} /s" for shuffle in (True, False))
                    lines.append(f"| {shape} | {label} | {by} | {cells} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="print the table only")
    options = parser.parse_args()
    results = {"×".join(map(str, shape)): measure_shape(shape, options.samples, options.passes) for shape in SHAPES}
    print(table(results))
    if not options.dry:
        content = {
            "samples": options.samples,
            "passes": options.passes,
            "batch_size": BATCH,
            "shard_size": auto_shard_size(options.samples),
            "results": results,
        }
        print(write_result("reader", torch.device("cpu"), command_line("bench_reader"), content), file=sys.stderr)
        replace_table("reader", table(results), PAGE)
    return 0


if __name__ == "__main__":
    run_main(main)
