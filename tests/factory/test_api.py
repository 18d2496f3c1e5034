"""The run over a folder: failures, refusals, memory, interruption."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers import Limited, Memory, bad_files, limited, picture
from PIL import Image
from relatent import LatentOptimizer, OptimizationConfig, load_autoencoder, load_optimized_dataset, optimize_directory
from relatent.engine.errors import DatasetError, RunStoppedError, UsageError
from relatent.engine.losses.metrics import from_uint8, psnr
from relatent.engine.optimization.batch_size import AUTO_BATCH
from relatent.factory.export import export_run
from relatent.factory.state.run_folder import RunFolder

QUICK = OptimizationConfig(iterations=3)
ENCODES_ONCE = OptimizationConfig(iterations=3, warm_start=0, precondition=False)


def run(source, out, vae, **options):
    return optimize_directory(source, out, vae, **({"config": QUICK, "size": 32} | options))


def test_bad_files_are_listed_and_the_rest_is_done(photographs, tmp_path, small_vae):
    reasons = bad_files(photographs)
    found = run(photographs, tmp_path / "out", small_vae, formats=["hdf5", "png", "pt"])
    listed = {failure["source_path"]: failure for failure in found["failures"]}
    expected = {name for name in reasons if (photographs / name).is_file()}
    assert set(listed) == expected
    assert found["counts"] == {"total": 4 + len(expected), "done": 4, "failed": len(expected)}
    assert all(failure["stage"] == "load" for failure in listed.values())
    assert found["status"] == "done"
    assert set(found["outputs"]) == {"hdf5", "png", "pt"}
    lines = [json.loads(line) for line in (tmp_path / "out" / "ledger.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "failure" for line in lines) == len(expected)
    assert not list((tmp_path / "out").rglob("*.partial*"))


def test_only_failures_leave_no_dataset(tmp_path, small_vae):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("nothing")
    found = run(tmp_path / "in", tmp_path / "out", small_vae)
    assert found["counts"] == {"total": 1, "done": 0, "failed": 1}
    assert found["outputs"] == {}
    with pytest.raises(UsageError, match="nothing to write"):
        export_run(RunFolder.open(tmp_path / "out"), "hdf5")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(size=60), "try 56 or 64"),
        (dict(fit="stretch"), "crop, pad, none"),
        (dict(formats=["hdf5", "csv"]), "unknown format 'csv'.*hdf5, png, pt"),
        (dict(limit=0), "limit: expected"),
        (dict(batch_size=-1), "batch_size: expected"),
        (dict(keep_images=False, formats=["png"]), "png needs the pictures"),
        (dict(background="nocolour"), "no colour"),
    ],
)
def test_refused_before_any_work(photographs, tmp_path, small_vae, options, words):
    with pytest.raises(UsageError, match=words):
        run(photographs, tmp_path / "out", small_vae, **options)
    assert not (tmp_path / "out").exists()


def test_an_occupied_folder_is_refused_naming_the_difference(photographs, tmp_path, small_vae):
    out = tmp_path / "out"
    run(photographs, out, small_vae)
    before = (out / "run.json").read_text()
    assert run(photographs, out, small_vae) == json.loads(before)
    with pytest.raises(UsageError, match="iterations was 3, now 5"):
        run(photographs, out, small_vae, config=OptimizationConfig(iterations=5))
    with pytest.raises(UsageError, match="size was 32, now 64"):
        run(photographs, out, small_vae, size=64)
    with pytest.raises(UsageError, match="weights_sha256 was"):
        run(photographs, out, load_autoencoder("tiny", device="cpu"))
    assert (out / "run.json").read_text() == before
    (out / "run.json").unlink()
    with pytest.raises(UsageError, match=r"plan.jsonl, ledger.jsonl, shards, dataset.h5 but no run\.json"):
        run(photographs, out, small_vae)


def test_damaged_run_folders(tmp_path):
    with pytest.raises(DatasetError, match="holds no run"):
        RunFolder.open(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DatasetError, match="damaged"):
        RunFolder.open(tmp_path)
    (tmp_path / "run.json").write_text('{"schema": "other"}')
    with pytest.raises(DatasetError, match="not of schema"):
        RunFolder.open(tmp_path)


def test_out_inside_the_input_is_not_read_as_input(photographs, small_vae):
    assert run(photographs, photographs / "out", small_vae, formats=["png"])["counts"]["total"] == 4
    shutil.rmtree(photographs / "out" / "shards")
    shutil.copytree(photographs / "out" / "png", photographs / "png")
    assert len(list((photographs / "png").rglob("*.png"))) > 4


def test_exact_sizes_and_too_small(photographs, tmp_path, small_vae):
    Image.fromarray(picture(32, 32)).save(photographs / "right.png")
    found = run(photographs, tmp_path / "out", small_vae, fit="none")
    assert found["counts"]["done"] == 1
    assert all("expected 32×32 pixels, found 64×48" in failure["reason"] for failure in found["failures"])


def test_names_that_meet_or_try_to_escape(tmp_path, small_vae):
    folder = tmp_path / "in"
    names = [
        "a/photo.png", "b/photo.jpg", "-rf.png", "naïve 写真.png", "..up.png", "two words.png", "a\nb.png", ".hidden.png",
        "é" * 125 + "e.png",  # 255 bytes
    ]  # fmt: skip
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed=seed)).save(folder / name)
    outside = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    found = run(folder, tmp_path / "out", small_vae, formats=["png", "hdf5"])
    assert found["counts"]["done"] == len(names)
    assert len(list((tmp_path / "out" / "png").glob("all/*/optimized.png"))) == len(names)
    after = sorted(path for path in tmp_path.rglob("*") if path.is_file() and (tmp_path / "out") not in path.parents)
    assert after == outside


def test_auto_batches_halve_until_they_fit(photographs, tmp_path, small_vae, monkeypatch, caplog):
    """Also with a picture that cannot be read among those of the batch that did not fit."""
    monkeypatch.setitem(AUTO_BATCH, "cpu", 4)
    (photographs / "broken.png").write_text("no picture")
    found = run(photographs, tmp_path / "out", limited(small_vae, 1))
    assert found["counts"] == {"total": 5, "done": 4, "failed": 1}
    assert found["engine"]["batch_size"] == 1
    assert "going on with 1" in caplog.text
    names = [record.name for records in RunFolder.open(tmp_path / "out").records() for record in records]
    assert names == ["first", "second", "third", "loose"]


def test_a_fixed_batch_says_the_size_that_fits(photographs, tmp_path, small_vae):
    with pytest.raises(UsageError, match="--batch-size 4 does not fit in memory; --batch-size 2 fits"):
        run(photographs, tmp_path / "out", limited(small_vae, 2), batch_size=4)
    with pytest.raises(UsageError, match="use a smaller --size"):
        run(photographs, tmp_path / "out2", limited(small_vae, 0), batch_size=1)


def test_memory_that_runs_out_later_stops_a_run_that_goes_on(photographs, tmp_path, small_vae):
    memory, calls = Memory(2), []

    def encode(images):
        calls.append(len(images))
        if calls.count(2) == 2:  # batches; what is measured of the decoder beforehand encodes single pictures
            memory.most = 1
        return small_vae.encode(images)

    vae = load_autoencoder(
        Limited(small_vae, memory), encoder=encode, latent_channels=4, downscale_factor=8, name="limited"
    )
    with pytest.raises(RunStoppedError, match="--batch-size 2 does not fit in memory; --batch-size 1 fits"):
        run(photographs, tmp_path / "out", vae, batch_size=2, config=ENCODES_ONCE)
    stopped = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (stopped["status"], stopped["counts"]["done"]) == ("failed", 2)
    found = run(photographs, tmp_path / "out", vae, batch_size=1, config=ENCODES_ONCE)
    assert (found["status"], found["counts"]["done"], found["batch_size"]) == ("done", 4, 1)


def test_pictures_through_two_slots_equal_pictures_alone(photographs, tmp_path, small_vae):
    """Those that are done early leave their slot to the next; the order stays that of the folder."""
    config = OptimizationConfig(iterations=30, target_gain=0.3, precision="fp32", checkpoint_interval=2)
    outs = [tmp_path / "one", tmp_path / "two"]
    for out, batch_size in zip(outs, (1, 2), strict=True):
        run(photographs, out, small_vae, config=config, batch_size=batch_size)
    alone, together = ([r for rs in RunFolder.open(out).records() for r in rs] for out in outs)
    assert [record.name for record in together] == [record.name for record in alone]
    assert len({len(record.losses) for record in alone}) > 1, "all stopped together: nothing was refilled"
    for one, two in zip(alone, together, strict=True):
        assert two.stop_reason == one.stop_reason
        assert two.losses == pytest.approx(one.losses, rel=1e-3)
        np.testing.assert_allclose(two.optimized_latents, one.optimized_latents, rtol=1e-2, atol=1e-2)


def test_nan_from_the_start_is_a_failure_of_that_picture_alone(photographs, tmp_path, small_vae):
    def encode(images):
        latents = small_vae.encode(images)
        bright = images.mean((1, 2, 3)) > images.mean((1, 2, 3)).median()
        return torch.where(bright.view(-1, 1, 1, 1), torch.nan, latents)

    vae = load_autoencoder(
        small_vae.decoder, encoder=encode, latent_channels=4, downscale_factor=8, native_size=32, name="poisoned"
    )
    found = run(photographs, tmp_path / "out", vae, batch_size=4)
    assert 0 < found["counts"]["failed"] < 4
    assert found["counts"]["done"] + found["counts"]["failed"] == 4
    assert all(failure["stage"] == "optimize" and "NaN" in failure["reason"] for failure in found["failures"])


def test_an_interruption_keeps_what_was_finished(photographs, tmp_path, small_vae):
    calls = []

    def encode(images):
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return small_vae.encode(images)

    vae = load_autoencoder(small_vae.decoder, encoder=encode, latent_channels=4, downscale_factor=8, name="interrupted")
    with pytest.raises(KeyboardInterrupt):
        run(photographs, tmp_path / "out", vae, batch_size=1, config=ENCODES_ONCE)
    folder = RunFolder.open(tmp_path / "out")
    assert folder.record.status == "interrupted"
    assert folder.record.counts["done"] == 2
    export_run(folder, "pt")
    assert len(torch.load(tmp_path / "out" / "dataset.pt", weights_only=True)["image_name"]) == 2


MIRRORED = OptimizationConfig(iterations=12, precision="fp32", target_gain=0.3, checkpoint_interval=2)


def all_records(out):
    return [record for records in RunFolder.open(out).records() for record in records]


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_both_views_of_a_picture_stay_together(photographs, tmp_path, small_vae, batch_size):
    """Through slots that are refilled one by one, with a file that cannot be read in between."""
    (photographs / "test" / "a broken one.png").write_text("no picture")
    found = run(photographs, tmp_path / "out", small_vae, config=MIRRORED, batch_size=batch_size, flip=True)
    assert found["counts"] == {"total": 5, "done": 4, "failed": 1}
    assert found["settings"]["flip"] is True
    records = all_records(tmp_path / "out")
    assert [record.name for record in records] == ["first", "second", "third", "loose"]
    assert (
        len({len(record.losses) for record in records} | {len(record.views["flipped"].losses) for record in records})
        > 1
    )
    for record in records:
        target = from_uint8(torch.from_numpy(record.images["original"])).permute(2, 0, 1).unsqueeze(0)
        mirrored = target.flip(-1)
        latents = torch.from_numpy(record.views["flipped"].initial_latents).unsqueeze(0)
        torch.testing.assert_close(latents, small_vae.encode(mirrored), rtol=1e-4, atol=1e-5)
        alone = LatentOptimizer(MIRRORED).optimize(small_vae, latents, mirrored)
        assert record.views["flipped"].losses == pytest.approx(alone.losses, rel=1e-3)
        assert record.views["flipped"].stop_reason == alone.stop_reason
        assert record.views["flipped"].convergence_iteration == alone.convergence_iteration
        assert record.views["flipped"].metrics == pytest.approx(alone.metrics, abs=1e-2)
        ends = {
            name: psnr(small_vae.decode(torch.from_numpy(latent.copy()).unsqueeze(0)), mirrored).item()
            for name, latent in (
                ("own", record.views["flipped"].optimized_latents), ("mirrored latent", record.optimized_latents[..., ::-1]),
            )
        }  # fmt: skip
        assert ends["own"] == pytest.approx(record.views["flipped"].metrics["final_psnr"], abs=1e-3)
        assert record.views["flipped"].metrics["psnr_improvement"] >= 0
        assert ends["own"] > ends["mirrored latent"]
    gains = [record.views["flipped"].metrics["psnr_improvement"] for record in records]
    assert found["statistics_flipped"]["psnr_improvement"]["mean"] == pytest.approx(np.mean(gains), abs=1e-5)


def test_both_views_survive_batches_that_do_not_fit(photographs, tmp_path, small_vae, monkeypatch):
    monkeypatch.setitem(AUTO_BATCH, "cpu", 8)
    plain = run(photographs, tmp_path / "plain", small_vae, batch_size=1, flip=True)
    found = run(photographs, tmp_path / "out", limited(small_vae, 3), flip=True)
    assert found["engine"]["batch_size"] == 2
    for one, two in zip(all_records(tmp_path / "plain"), all_records(tmp_path / "out"), strict=True):
        assert one.name == two.name
        np.testing.assert_allclose(
            two.views["flipped"].initial_latents, one.views["flipped"].initial_latents, atol=1e-4
        )
    assert found["counts"] == plain["counts"]


def test_a_picture_of_which_one_view_fails_has_failed(tmp_path, small_vae):
    """Here the view that is brighter on the left."""

    def encode(images):
        left, right = images.chunk(2, dim=-1)
        poisoned = left.mean((1, 2, 3)) > right.mean((1, 2, 3))
        return torch.where(poisoned.view(-1, 1, 1, 1), torch.nan, small_vae.encode(images))

    (tmp_path / "in").mkdir()
    for name, left, right in (("a", 200, 90), ("b", 90, 90), ("c", 90, 200)):
        pixels = np.full((32, 32, 3), left, np.uint8)
        pixels[:, 16:] = right
        pixels[0, :] = 0
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    vae = load_autoencoder(
        small_vae.decoder, encoder=encode, latent_channels=4, downscale_factor=8, native_size=32, name="poisoned"
    )
    found = run(tmp_path / "in", tmp_path / "out", vae, batch_size=3, flip=True)
    assert found["counts"] == {"total": 3, "done": 1, "failed": 2}
    assert [record.name for record in all_records(tmp_path / "out")] == ["b"]
    reasons = {failure["name"]: failure["reason"] for failure in found["failures"]}
    assert reasons["a"].startswith("NaN or infinity")
    assert reasons["c"].startswith("mirrored: NaN or infinity")


def test_an_interruption_keeps_whole_pairs(photographs, tmp_path, small_vae):
    calls = []

    def encode(images):
        calls.append(len(images))
        if len(calls) == 4:  # the mirrored view of the second picture
            raise KeyboardInterrupt
        return small_vae.encode(images)

    vae = load_autoencoder(small_vae.decoder, encoder=encode, latent_channels=4, downscale_factor=8, name="interrupted")
    with pytest.raises(KeyboardInterrupt):
        run(photographs, tmp_path / "out", vae, batch_size=1, flip=True, config=ENCODES_ONCE)
    folder = RunFolder.open(tmp_path / "out")
    assert folder.record.counts["done"] == 1
    assert folder.record.view_statistics["flipped"]
    (record,) = all_records(tmp_path / "out")
    assert record.views["flipped"].optimized_latents.shape == record.optimized_latents.shape
    for name in ("hdf5", "pt", "png"):
        export_run(folder, name)
    assert len(load_optimized_dataset(tmp_path / "out" / "dataset.h5")) == 1
