"""The two functions over BSDS500's photographs."""

import json

import relatent


def test_bsds500_helpers(bsds500, tmp_path, monkeypatch):
    monkeypatch.setenv("BSDS500_PATH", str(bsds500))
    found = relatent.optimize_bsds500_test(
        tmp_path / "trial", max_images=1, vae="tiny", size=64, iterations=3, preset="original"
    )
    assert json.loads((tmp_path / "trial" / "run.json").read_text())["config"]["betas"] == [0.9, 0.999]
    assert set(found) == {"pytorch", "png"}
    assert len(relatent.load_optimized_dataset(found["pytorch"])) == 3
    assert len(list(found["png"].glob("*/*/metrics.json"))) == 3
    found = relatent.optimize_bsds500_full(
        tmp_path / "full", iterations=1, learning_rate=0.1, create_png=False, vae="tiny", size=32
    )
    assert set(found) == {"pytorch"}
    assert len(relatent.load_optimized_dataset(found["pytorch"])) == 24
