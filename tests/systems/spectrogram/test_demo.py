"""The demo with a few small pictures: everything is made, and is not made twice."""

import json

import pytest
from relatent.systems.spectrogram.demo import DemoSettings, run_demo

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = DemoSettings(
    users=2,
    recordings=3,
    windows=4,
    side=32,
    vae_steps=4,
    diffusion_steps=3,
    samples=2,
    epochs=1,
    vae={"block_out_channels": (8, 8), "batch_size": 8},
    diffusion={
        "block_out_channels": (16,),
        "attention": (True,),
        "cross_attention_dim": 16,
        "batch_size": 8,
        "subtract_mean": True,
    },
)


def test_from_nothing_to_a_page(tmp_path):
    lines: list[str] = []
    found = run_demo(tmp_path, TINY, lines.append)
    assert json.loads(json.dumps(found))["settings"]["users"] == 2
    assert (found["vae"]["steps"], found["diffusion"]["steps"], found["samples"]) == (4, 3, 4)
    assert found["stages"].keys() == {"simulation", "VAE", "diffusion model", "samples", "validation and page"}
    assert found["seconds"] == pytest.approx(sum(stage["seconds"] for stage in found["stages"].values()))
    model = json.loads((tmp_path / "model/model.json").read_text())
    assert any(model["scaling"]["mean"])
    generation = json.loads((tmp_path / "samples/generation.json").read_text())
    assert generation["guidance_scale"] == TINY.guidance_scale
    page = (tmp_path / "validation/report.html").read_text(encoding="utf-8")
    assert found["report"] == str(tmp_path / "validation/report.html")
    for text in ("What is simulated", "2 walkers of 3 recordings with 4 windows", "Reconstruction by the VAE"):
        assert text in page
    samples = {path: path.stat().st_mtime_ns for path in (tmp_path / "samples").glob("*/*.png")}
    assert len(samples) == 4
    (tmp_path / "samples/ID_2/sample_0001.png").unlink()
    del lines[:]
    again = run_demo(tmp_path, TINY, lines.append)
    assert not [line for line in lines if "epoch" in line and "going on" not in line]  # nothing is trained again
    assert again["scores"] == found["scores"]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "samples").glob("*/*.png")}
    assert [path.name for path in samples if kept[path] != samples[path]] == ["sample_0001.png"]
