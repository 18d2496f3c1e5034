"""An encoder tuned on a run, and a run that starts at it."""

import json

import pytest
import relatent
import torch
from helpers import save_pictures
from relatent.cli.main import main
from relatent.engine.errors import UsageError
from relatent.factory.state.run_folder import RunFolder
from relatent.factory.tuning import RunCrops


@pytest.fixture(scope="module")
def run(vae_folder, tmp_path_factory):
    """A run over four pictures of 64 × 48 at 48², in a folder of its own."""
    folder = tmp_path_factory.mktemp("tuning")
    save_pictures(folder / "in", 4)
    config = relatent.OptimizationConfig(iterations=3)
    relatent.optimize_directory(folder / "in", folder / "out", vae_folder, config=config, size=48, device="cpu")
    return folder


def test_crops_are_of_the_pictures_that_were_optimised(run, small_vae):
    crops = RunCrops(RunFolder.open(run / "out"), small_vae, 32)
    targets = crops.sample(6, 32, torch.Generator().manual_seed(0))
    assert targets.shape == (6, 3, 32, 32)
    assert len(crops.held_out) == 1
    used = {source.name for source in crops.pictures}
    assert len(used) == 3
    originals = [
        r.images["original"] for records in RunFolder.open(run / "out").records() for r in records if r.name in used
    ]
    for target in targets:
        pixels = ((target.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
        places = [
            (y, x)
            for one in originals
            for y in range(17)
            for x in range(17)
            if (one[y : y + 32, x : x + 32] == pixels).all()
        ]
        assert len(places) == 1
    with pytest.raises(UsageError, match="has 0 finished pictures of at least 64 pixels"):
        RunCrops(RunFolder.open(run / "out"), small_vae, 64)


def test_tune_and_start_there(run, vae_folder, tmp_path, capsys):
    own = tmp_path / "own.safetensors"
    words = [
        "tune-encoder",
        run / "out",
        "--output",
        own,
        "--steps",
        12,
        "--crop",
        32,
        "--learning-rate",
        1e-3,
        "--json",
    ]
    assert main([str(word) for word in words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["facts"]["settings"]["steps"] == 12
    assert found["facts"]["crops"]["pictures"] == 3
    assert not own.with_suffix(".checkpoint").exists()
    common = ["--vae", vae_folder, "--size", 48, "--iterations", 2, "--device", "cpu", "--json"]
    words = ["optimize", run / "in", tmp_path / "out", *common, "--start", own]
    assert main([str(word) for word in words]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["config"]["start"] == f"{own.resolve()}@{found['sha256']}"
    assert result["statistics"]["psnr_improvement"]["min"] >= 0.0
    encoder = RunFolder.open(run / "out").record.statistics["initial_psnr"]["mean"]
    assert result["statistics"]["initial_psnr"]["mean"] == pytest.approx(encoder, abs=1e-3)

    own.write_bytes(own.read_bytes().replace(b"steps", b"stepz"))
    assert main([str(word) for word in words]) == 2  # the same command, another file
    assert "start was" in capsys.readouterr().err
    (tmp_path / "out" / "ledger.jsonl").write_text("")
    assert main(["resume", str(tmp_path / "out")]) == 2
    assert "is not the one of" in capsys.readouterr().err


def test_pictures_that_are_gone(run, tmp_path):
    gone = run / "in" / "3.png"
    content = gone.read_bytes()
    gone.unlink()
    try:
        assert (
            main(["tune-encoder", str(run / "out"), "--crop", "32", "--output", str(tmp_path / "x.safetensors")]) == 2
        )
    finally:
        gone.write_bytes(content)
