"""The step's benchmark measures in a process of its own, and says what fails."""

import json
import sys

import pytest
from relatent.benchmarks.anomaly.step import main, measure_apart, measure_step, table


@pytest.mark.slow
def test_a_step_at_32(tmp_path, capsys):
    main(["--sides", "32", "--batches", "1", "--precisions", "fp32", "--steps", "1", "--out", str(tmp_path)])
    (path,) = tmp_path.glob("anomaly_step-*.json")
    content = json.loads(path.read_text())
    (row,) = content["rows"]
    assert row["seconds"]["median"] == row["seconds_per_volume"] > 0
    # weights, gradients and two moments of Adam's
    assert row["peak_bytes"] - row["bytes_before"] > 4 * 4 * content["parameters"]
    assert "| 32³ | 1 | fp32 | " in capsys.readouterr().out
    assert measure_step(32, 1, "bf16", 1)["first_loss"] == pytest.approx(row["first_loss"], rel=0.02)


def test_what_fails_is_said(monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    row = measure_apart({"side": 32, "batch": 1, "precision": "fp32"}, 1)
    assert row["failed"] == "exit status 1"
    assert "exit status 1" in table([row])
