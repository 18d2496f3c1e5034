"""The study of all methods: its summary and tables by hand, and a whole small run."""

import json

import pytest
from relatent.benchmarks.anomaly import methods
from relatent.systems.anomaly.maps.reader import MapReader

SMALL = (
    *methods.TRAINING[:-4], "training.epochs=1", "model.hidden_channels=[4,8]", "model.embedding_dim=8",
    "model.num_embeddings=32", "training.precision=32-true",
)  # fmt: skip


def figures(auroc, auprc):
    return {"auroc": auroc, "auprc": auprc, "dice": 0.1, "volume_auroc": 0.5, "seconds": 1.0}


def test_differences_are_those_of_the_same_seed():
    seeds = {
        "1": {"plain error": figures(0.8, 0.1), "restoration": figures(0.9, 0.2)},
        "2": {"plain error": figures(0.6, 0.3), "restoration": figures(0.7, 0.35)},
    }
    summary = methods.summarise(seeds)
    assert summary["restoration"]["auprc"]["mean"] == pytest.approx(0.275)
    assert summary["restoration"]["auprc"]["difference"] == pytest.approx({"mean": 0.075, "least": 0.05, "most": 0.1})
    rows = methods.table(summary, 2).splitlines()
    assert rows[0].startswith("| synthetic vertebrae, 2 seeds | voxel AUROC |")
    assert rows[3].startswith("| restoration | 0.800 (0.700 to 0.900) | 0.275 (0.200 to 0.350) |")
    assert "+0.075 (+0.050 to +0.100)" in rows[3]


@pytest.mark.slow
def test_a_small_run_goes_through_all_methods_and_is_not_made_twice(tmp_path, monkeypatch):
    sets = {
        name: (count, *rest) for count, (name, (_, *rest)) in zip((25, 4, 4, 10), methods.SETS.items(), strict=True)
    }
    monkeypatch.setattr(methods, "SETS", sets)
    monkeypatch.setattr(methods, "FITTED", 25)
    monkeypatch.setattr(methods, "EPOCHS", 1)
    monkeypatch.setattr(methods, "TRAINING", SMALL)
    page, readme = tmp_path / "page.md", tmp_path / "README.md"
    page.write_text("<!-- anomaly_methods -->\n<!-- /anomaly_methods -->\n")
    readme.write_text("<!-- anomaly -->\n<!-- /anomaly -->\n")
    monkeypatch.setattr(methods, "PAGE", page)
    arguments = [
        str(tmp_path / "work"),
        "--seeds",
        "1",
        "--side",
        "16",
        "--readme",
        str(readme),
        "--out",
        str(tmp_path),
    ]
    methods.main(arguments)
    (path,) = tmp_path.glob("anomaly_methods-*.json")
    found = json.loads(path.read_text())["seeds"]["1"]
    names = {
        "plain error",
        "restoration, none",
        "restoration, nearest-code",
        "restoration, mixture",
        "detector, slices",
    }
    assert names <= found.keys()
    assert methods.short_table(methods.summarise({"1": found}), 1) in readme.read_text()
    maps = tmp_path / "work" / "seed_1" / "maps" / "detector_boxes" / "held_out"
    with MapReader(maps) as reader:
        assert (len(reader), reader.method, reader.synthetic) == (4, "detector", True)
    before = {one: one.stat().st_mtime_ns for one in (tmp_path / "work").rglob("shard-*.h5")}
    methods.main(arguments)
    assert before == {one: one.stat().st_mtime_ns for one in (tmp_path / "work").rglob("shard-*.h5")}
