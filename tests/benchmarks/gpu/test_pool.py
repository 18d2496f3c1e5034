"""Cells in processes: prepared side by side, measured in order, each error and each end kept to its cell."""

import time

import pytest
import torch
from relatent.benchmarks.gpu.pool import Job, _give_way, measure_all, measure_here
from relatent.benchmarks.gpu.section import Cell
from relatent.benchmarks.gpu.sections import SECTIONS


class Waiting(Job):
    """A cell without a process, in a given state."""

    def __init__(self, name, state, seconds=1.0):
        self.cell, self.state, self.beside, self.rates = Cell("layers", name, seconds), state, False, None

    def go(self, rates):
        self.state, self.rates = "measuring", rates


@pytest.mark.parametrize(
    ("states", "more", "settled", "expected"),
    [
        ("ready ready", False, False, "measuring ready"),
        ("ready preparing", False, False, "ready preparing"),  # it would disturb
        ("ready ready", True, False, "ready ready"),
        ("preparing ready", True, True, "preparing measuring"),  # enough waited
        ("measuring ready", False, True, "measuring ready"),
    ],
)
def test_who_may_measure(states, more, settled, expected):
    jobs = [Waiting(str(i), state) for i, state in enumerate(states.split())]
    now = time.monotonic()
    skipped = []
    _give_way(jobs, more, now + (-1 if settled else 100), now + 1000, skipped, lambda: {"rate": 1.0})
    assert " ".join(job.state for job in jobs) == expected
    for job in jobs:
        if job.rates:
            assert job.beside == ("preparing" in states)
    assert skipped == []


def test_a_cell_that_would_not_fit_is_skipped_for_a_shorter_one():
    jobs = [Waiting("long", "ready", 50.0), Waiting("short", "ready", 5.0)]
    skipped = []
    now = time.monotonic()
    _give_way(jobs, False, now, now + 20.0, skipped, lambda: None)
    assert [job.state for job in jobs] == ["skipped", "measuring"]
    assert [cell.name for cell in skipped] == ["long"]


def test_processes():
    results = {}
    cells = [Cell("ceilings", "good", 1.0), Cell("ceilings", "bad", 1.0, {"nonsense": 1})]
    skipped = measure_all(
        cells, torch.device("cpu"), True, time.monotonic() + 300.0, 2, lambda cell, result: results.update({cell.name: result}),
        lambda: None,
    )  # fmt: skip
    assert skipped == []
    assert results["good"]["copy_bytes_per_second"] > 0.0
    assert results["good"]["prepare_seconds"] >= 0.0
    assert "nonsense" in results["bad"]["error"]


def test_a_process_that_takes_too_long_is_ended():
    results = {}
    cells = [Cell("ceilings", "slow", 0.0)]
    begin = time.monotonic()
    skipped = measure_all(
        cells, torch.device("cpu"), True, begin + 0.2, 1, lambda cell, result: results.update({cell.name: result}),
        lambda: None,
    )  # fmt: skip
    assert skipped == cells or "too long" in results["slow"]["error"]


def test_here_an_error_is_a_result():
    assert "nonsense" in measure_here(SECTIONS["ceilings"], Cell("ceilings", "x", 1.0, {"nonsense": 1}), torch.device("cpu"), True, None)["error"]  # fmt: skip
