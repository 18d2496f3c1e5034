"""The comparison of both methods: its table by hand, and a whole quick run."""

import json

import pytest
from relatent.benchmarks.spectrogram import methods

SET = {
    "recognition.accuracy": 0.5,
    methods.LEAST: 0.25,
    "per_user.recognised": 0.75,
    "per_user.rejected": 0.9,
    "per_user.discrimination": 0.31,
    "metric_success": 0.4,
    "frechet": 12.34,
    "diversity_ratio": 0.9,
    "nearest.copies": 0.0,
}
COSTS = {key: 2000 for _, key, _ in methods.COSTS} | {"autoencoder_seconds": None}


def test_the_table_has_a_column_for_each_method_and_both_references():
    sets = {"generated": SET, "held_out": SET | {"frechet": 1.0}, "baseline": SET | {"frechet": None}}
    content = {"users": 3, "side": 32, "methods": {"one": {"costs": COSTS, "scores": {"sets": sets}}}}
    rows = methods.table(content).splitlines()
    assert rows[0] == "| simulated walkers, 3 users, 32² | one | held-out real | independent pixels |"
    assert "| classified as their user | 50.0% | 50.0% | 50.0% |" in rows
    assert "| Fréchet distance on own features | 12.3 | 1.0 | unknown |" in rows
    assert "| parameters: generator | 2,000 |  |  |" in rows
    assert "| training of the autoencoder, s of one core | unknown |  |  |" in rows
    assert len(rows) == 2 + len(methods.SCORES) + len(methods.COSTS)


@pytest.mark.slow
def test_what_is_measured_is_kept(tmp_path):
    record = tmp_path / "one.json"
    assert methods.apart(record, max, 2, 3)["result"] == 3
    assert methods.apart(record, max, 7, 8)["result"] == 3
    assert json.loads(record.read_text())["peak_bytes"] > 1e6


@pytest.mark.slow
def test_a_quick_run_goes_through_both_methods(tmp_path, monkeypatch):
    monkeypatch.setattr(
        methods, "apart", lambda record, function, *given, **named: methods.measured(function, *given, **named)
    )
    out, work = tmp_path / "out", tmp_path / "work"
    methods.main([str(work), "--quick", "--out", str(out)])
    (path,) = out.glob("spectrogram_methods-*.json")
    found = json.loads(path.read_text())
    assert found["simulated"] is True
    assert list(found["methods"]) == [methods.DIFFUSION, methods.VQ]
    for one in found["methods"].values():
        assert one["scores"]["sets"]["generated"]["pictures"] == 6
        assert one["costs"]["steps"] == [2, 2]
        assert one["costs"]["autoencoder_seconds"] > 0 < one["costs"]["generator_seconds"]
    same = [one["scores"]["sets"]["held_out"] for one in found["methods"].values()]
    assert same[0]["recognition.accuracy"] == same[1]["recognition.accuracy"]  # the same judges
    given = ["--data_dir", "data", "--diffusion_dir", "diffusion", "--vq_dir", "vq"]
    given = [str(work / one) if "_" not in one else one for one in given]
    methods.main([str(tmp_path / "again"), "--quick", "--out", str(out), *given])
    costs = json.loads(path.read_text())["methods"]
    assert costs[methods.DIFFUSION]["costs"]["generator_seconds"] is None
    assert costs[methods.VQ]["costs"]["generator_seconds"] > 0
