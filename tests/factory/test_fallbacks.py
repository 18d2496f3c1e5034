"""Pictures that keep the encoder's own latent are counted, and a run of nothing else is no success."""

import json

import numpy as np
import pytest
from helpers import picture
from PIL import Image
from relatent import OptimizationConfig, optimize_directory, resume_directory, verify_run
from relatent.cli.main import main
from relatent.cli.text import nothing_improved
from relatent.factory.report import write_report
from relatent.factory.state.run_folder import RunFolder

START = {"iterations": 3, "precision": "fp32", "warm_start": 0}  # the iterations start at the encoder's latent
NAN = START | {"learning_rate": 1e30}  # the first step leaves the range of numbers
STILL = START | {"learning_rate": 1e-30}  # no step changes a latent


def only_bright(decoded, target):
    """MSE per image, without any gradient where the target is black: such a picture keeps its latent."""
    return (decoded - target).square().mean((1, 2, 3)) * (target.amax((1, 2, 3)) > -0.9)


SOME = START | {"loss_function": only_bright}


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(3):
        Image.fromarray(picture(40, 40, seed)).save(folder / f"{seed}.png")
    Image.new("RGB", (40, 40)).save(folder / "2.png")
    return folder


def run(pictures, out, vae, settings, **options):
    config = OptimizationConfig(**settings)
    return optimize_directory(pictures, out, str(vae), config=config, size=32, shard_size=1, device="cpu", **options)


def kept(out):
    """How many pictures hold the encoder's latent, bit by bit."""
    records = [record for some in RunFolder.open(out).records() for record in some]
    return sum(
        all(np.array_equal(one.initial_latents, one.optimized_latents) for _, one in record.all_views())
        for record in records
    )


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("settings", "status", "fallback"), [(NAN, "failed", 3), (STILL, "failed", 3), (SOME, "done", 1)]
)
def test_pictures_that_are_not_improved_are_counted(pictures, vae_folder, tmp_path, settings, status, fallback, flip):
    out = tmp_path / "out"
    found = run(pictures, out, vae_folder, settings, flip=flip)
    assert kept(out) == fallback
    assert found["status"] == status
    assert found["counts"] == {"total": 3, "done": 3, "failed": 0, "fallback": fallback}
    assert json.loads((out / "run.json").read_text())["counts"] == found["counts"]
    assert set(found["outputs"]) == {"hdf5"}
    assert (nothing_improved(found, out) is None) == (status == "done")
    page = write_report(out).read_text()
    assert f"<b>{fallback}</b>not improved" in page


def test_a_run_that_gains_has_no_such_count(pictures, vae_folder, tmp_path):
    found = run(pictures, tmp_path / "out", vae_folder, START)
    assert found["status"] == "done"
    assert found["counts"] == {"total": 3, "done": 3, "failed": 0}
    assert kept(tmp_path / "out") == 0
    assert "not improved" not in write_report(tmp_path / "out").read_text()


def test_a_picture_that_meets_its_target_at_once_is_none(pictures, vae_folder, tmp_path):
    found = run(pictures, tmp_path / "out", vae_folder, STILL | {"target_psnr": 1.0})
    assert kept(tmp_path / "out") == 3
    assert (found["status"], found["counts"]) == ("done", {"total": 3, "done": 3, "failed": 0})


def test_the_count_is_the_same_after_a_resume_and_a_repair(pictures, vae_folder, tmp_path):
    out = tmp_path / "out"
    expected = run(pictures, out, vae_folder, NAN)
    RunFolder.open(out).ledger.drop([1])
    found = resume_directory(out)
    assert (found["status"], found["counts"]) == ("failed", expected["counts"])
    shard = out / "shards" / "shard-000002.h5"
    shard.write_bytes(shard.read_bytes()[:-1])
    repaired = verify_run(out, repair=True)
    assert (repaired["status"], repaired["damage"]) == ("failed", [])
    assert RunFolder.open(out).record.counts == expected["counts"]


def test_nothing_but_fallbacks_is_status_1_and_one_line(pictures, vae_folder, tmp_path, capsys):
    settings, out = tmp_path / "settings.json", tmp_path / "out"
    settings.write_text(json.dumps(NAN))
    arguments = [
        "optimize", str(pictures), str(out), "--vae", str(vae_folder), "--size", "32", "--device", "cpu",
        "--config", str(settings),
    ]  # fmt: skip
    line = (
        "relatent: none of the 3 pictures was improved, each kept the encoder's latent: the learning rate may be too high "
        "for this autoencoder, its precision too low (stop reason non-finite), the regulariser too strong, or the "
        f"iterations too few. `relatent info {out}` lists the stop reasons; try another --learning-rate, --precision fp32 "
        "or more --iterations, with another OUT"
    )
    for command in (arguments, arguments, ["resume", str(out)]):
        assert main(command) == 1
        printed = capsys.readouterr()
        assert printed.err.splitlines()[-1] == line
        assert printed.out.splitlines()[:2] == [
            f"{out}: 3 of 3 pictures, failed, vae small",
            "3 kept the encoder's latent: no iteration improved them",
        ]
    assert main(["info", str(out)]) == 0
    assert capsys.readouterr().out.count("non-finite") == 3
