"""The benchmarks' own arithmetic, and the reader's benchmark."""

import torch
from relatent.benchmarks.bench_reader import measure_shape
from relatent.benchmarks.bench_reader import table as reader_table
from relatent.benchmarks.timing import measure


def test_the_readers_benchmark():
    rows = measure_shape((4, 4, 4), 80, 1)
    assert len(rows) == 3 * 2 * 2 + 2 * 2
    assert all(0 < row["samples_per_second"]["least"] <= row["samples_per_second"]["most"] for row in rows)
    assert "| 4×4×4 | `dataset.h5` over shards | DataLoader, 2 workers | " in reader_table({"4×4×4": rows})


def test_quantiles():
    found = measure(lambda: torch.ones(10), torch.device("cpu"), repeats=5)
    assert 0 < found["p20"] <= found["median"] <= found["p80"]
