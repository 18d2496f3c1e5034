"""Runs that go on: full disks, locks, changed inputs, failures taken up again."""

import json
import multiprocessing
import os

import numpy as np
import pytest
from helpers import picture
from killed import CONFIG, command_line, hold, work
from PIL import Image
from relatent import OptimizationConfig, load_autoencoder, optimize_directory, resume_directory
from relatent.cli.main import main
from relatent.engine.errors import DatasetError, RunStoppedError, UsageError
from relatent.exporters.hdf5.reading import open_file
from relatent.factory.state.lock import RunLock
from relatent.factory.state.run_folder import RunFolder


@pytest.fixture(scope="module")
def context():
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["killed", "diffusers.models.autoencoders"])
    return found


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(6):
        Image.fromarray(picture(40, 40, seed)).save(folder / f"{seed}.png")
    return folder


def latents(out):
    return {r.name: r.optimized_latents for records in RunFolder.open(out).records() for r in records}


def test_a_full_disk_is_one_line_and_what_was_finished_stays(context, pictures, vae_folder, tmp_path):
    out = tmp_path / "out"
    options = ["--size", "32", "--iterations", "4", "--precision", "fp32", "--shard-size", "2", "--device", "cpu"]
    arguments = ["optimize", str(pictures), str(out), "--vae", str(vae_folder), *options]
    process = context.Process(target=command_line, args=(arguments, ("disk full", 3), tmp_path / "errors"))
    process.start()
    process.join()
    assert process.exitcode == 1
    _, error = (tmp_path / "errors").read_text().splitlines()  # behind the line of progress
    assert "File too large" in error
    assert f"`relatent resume {out}` goes on" in error
    folder = RunFolder.open(out)
    assert folder.record.status == "failed"
    assert list(folder.ledger.shards()) == [0, 1]
    for number in (0, 1):
        with open_file(folder.shard_path(number)) as file:
            assert np.isfinite(file["optimized_latents"][:]).all()
    assert not list(out.rglob("*partial*"))
    assert main(["resume", str(out)]) == 0
    work(pictures, tmp_path / "other", vae_folder)
    found, expected = latents(out), latents(tmp_path / "other")
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)


def test_two_runs_at_once_and_a_dead_one(context, pictures, vae_folder, tmp_path, capfd):
    out = tmp_path / "out"
    out.mkdir()
    ready = context.Event()
    holder = context.Process(target=hold, args=(out, ready))
    holder.start()
    assert ready.wait(60)
    with pytest.raises(UsageError, match=rf"in use: process {holder.pid} on .* is writing to it"):
        work(pictures, out, vae_folder)
    arguments = ["optimize", str(pictures), str(out), "--vae", str(vae_folder), "--size", "32", "--device", "cpu"]
    assert main(arguments) == 2
    assert "is in use" in capfd.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == ["run.lock"]
    holder.kill()
    holder.join()
    work(pictures, out, vae_folder)
    with RunLock(out), pytest.raises(UsageError, match="another run of this very process"):
        resume_directory(out)


def test_changed_inputs_are_named(pictures, vae_folder, tmp_path):
    out = tmp_path / "out"
    work(pictures, out, vae_folder)
    before = (out / "run.json").read_text()
    os.utime(pictures / "0.png")  # touched, the same bytes
    assert resume_directory(out) == json.loads(before)
    Image.fromarray(picture(40, 40, 99)).save(pictures / "3.png")
    (pictures / "5.png").rename(tmp_path / "5.png")
    for go_on in (lambda: work(pictures, out, vae_folder), lambda: resume_directory(out)):
        with pytest.raises(UsageError, match=r"5\.png is gone"):
            go_on()
    (tmp_path / "5.png").rename(pictures / "5.png")
    with pytest.raises(UsageError, match=r"inputs changed since the run began: .*3\.png has changed; put them back"):
        resume_directory(out)
    Image.fromarray(picture(40, 40, 3)).save(pictures / "3.png")
    Image.fromarray(picture(40, 40, 7)).save(pictures / "7.png")
    with pytest.raises(UsageError, match=r"a run over other pictures: 7\.png is new"):
        work(pictures, out, vae_folder)
    assert (out / "run.json").read_text() == before


def test_a_file_that_changes_under_the_run_fails_alone(pictures, small_vae, tmp_path):
    def encode(images):
        (pictures / "5.png").write_bytes((pictures / "4.png").read_bytes())
        return small_vae.encode(images)

    vae = load_autoencoder(small_vae.decoder, encoder=encode, latent_channels=4, downscale_factor=8, name="editor")
    found = optimize_directory(pictures, tmp_path / "out", vae, config=CONFIG, size=32, workers=0)
    assert [(failure["name"], failure["reason"]) for failure in found["failures"]] == [
        ("5", "changed since the run was planned")
    ]


def test_another_autoencoder_or_none_is_refused(pictures, vae_folder, small_vae, tmp_path):
    from helpers import small_kl

    out = tmp_path / "out"
    moved = tmp_path / "vae"
    small_kl().save_pretrained(moved)
    work(pictures, out, moved)
    small_kl(seed=1).save_pretrained(moved)
    with pytest.raises(UsageError, match=r"the autoencoder is another.*weights_sha256 was"):
        resume_directory(out)
    optimize_directory(pictures, tmp_path / "memory", small_vae, config=CONFIG, size=32)
    with pytest.raises(UsageError, match=r"an autoencoder from memory.*the same call"):
        resume_directory(tmp_path / "memory")
    with pytest.raises(DatasetError, match="holds no run"):
        resume_directory(tmp_path / "nothing")


def test_failures_are_taken_up_again_when_asked(pictures, vae_folder, tmp_path, capfd):
    out, good = tmp_path / "out", (pictures / "2.png").read_bytes()
    (pictures / "2.png").write_bytes(good[:200])
    work(pictures, out, vae_folder)
    kept = {path.name: path.stat().st_ino for path in (out / "shards").iterdir()}
    (pictures / "2.png").write_bytes(good)
    assert main(["resume", str(out)]) == 1
    assert "2.png" in capfd.readouterr().out
    assert main(["resume", str(out), "--retry-failed"]) == 0
    record = RunFolder.open(out).record
    assert record.counts == {"total": 6, "done": 6, "failed": 0}
    assert list(latents(out)) == [str(i) for i in range(6)]
    after = {path.name: path.stat().st_ino for path in (out / "shards").iterdir()}
    assert [name for name in kept if after[name] != kept[name]] == ["shard-000001.h5"]
    work(pictures, tmp_path / "other", vae_folder)
    found, expected = latents(out), latents(tmp_path / "other")
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert main(["resume", str(out), "--retry-failed"]) == 0


def test_too_many_failures_stop_the_run(pictures, vae_folder, tmp_path, capfd):
    for name in ("1", "3", "4"):
        (pictures / f"{name}.png").write_text("no picture")
    out = tmp_path / "out"
    arguments = [
        "optimize", str(pictures), str(out), "--vae", str(vae_folder), "--size", "32", "--iterations", "2",
        "--device", "cpu", "--shard-size", "2",
    ]  # fmt: skip
    assert main([*arguments, "--max-failures", "1"]) == 1
    assert "2 pictures failed, more than --max-failures 1" in capfd.readouterr().err
    record = RunFolder.open(out).record
    assert record.status == "failed"
    assert record.counts == {"total": 6, "done": 2, "failed": 2}
    with pytest.raises(RunStoppedError):
        resume_directory(out, max_failures=1)
    assert resume_directory(out)["counts"] == {"total": 6, "done": 3, "failed": 3}


def test_more_formats_of_a_finished_run(pictures, vae_folder, tmp_path):
    out = tmp_path / "out"
    work(pictures, out, vae_folder)
    shards = {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    arguments = dict(config=CONFIG, size=32, shard_size=2, device="cpu")
    record = optimize_directory(pictures, out, str(vae_folder), formats=["png"], **arguments)
    assert set(record["outputs"]) == {"hdf5", "pt", "png"}
    assert {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()} == shards
    with pytest.raises(UsageError, match=r"learning_rate was None, now 0\.1.*`relatent resume"):
        optimize_directory(
            pictures, out, str(vae_folder), **(arguments | {"config": OptimizationConfig(4, learning_rate=0.1)})
        )


@pytest.mark.parametrize("workers", [0, 2])
def test_readers_change_nothing(pictures, vae_folder, tmp_path, workers):
    (pictures / "3.png").write_bytes(b"no picture")
    for out, count in (("one", 1), ("two", workers)):
        optimize_directory(
            pictures, tmp_path / out, str(vae_folder), config=CONFIG, size=32, shard_size=4, device="cpu", workers=count
        )
    found, expected = latents(tmp_path / "one"), latents(tmp_path / "two")
    assert list(found) == ["0", "1", "2", "4", "5"]
    assert all(np.array_equal(found[name], expected[name]) for name in found)
    assert [failure.name for failure in RunFolder.open(tmp_path / "two").record.failures] == ["3"]
