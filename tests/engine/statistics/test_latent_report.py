"""The report on a run's latents: against numpy's and scipy's formulas, and on cases whose answer is known."""

import json

import numpy as np
import pytest
import relatent
import torch
from helpers import picture
from PIL import Image
from relatent.cli.main import main
from relatent.engine.optimization.batcher import Batcher
from relatent.engine.records import Failure, Record
from relatent.engine.statistics.latent_report import LatentReport
from relatent.engine.statistics.moments import Moments
from relatent.engine.statistics.spectrum import BANDS, Spectrum
from relatent.exporters.summaries.latents import latent_figure, latent_rows
from relatent.factory.state.run_folder import RunFolder
from scipy import stats


def record(initial, optimized, target=None):
    kept = [np.asarray(latents, np.float32) for latents in (initial, optimized)]
    return Record(*kept, [1.0], None, "iterations", {}, "a", "all", "a.png", (8, 8), target=target)


def report_of(pairs):
    report = LatentReport()
    for initial, optimized in pairs:
        report.add([record(initial, optimized)])
    assert report.error is None
    return strict(report.summary())


def strict(summary):
    """Through strict JSON and back."""
    return json.loads(json.dumps(summary, allow_nan=False))


def random_pairs(count, shape=(3, 6, 10), seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        initial = rng.standard_normal(shape).astype(np.float32) ** 3 + rng.uniform(-3, 3, (shape[0], 1, 1))
        yield initial.astype(np.float32), (initial + 0.2 * rng.standard_normal(shape)).astype(np.float32)


def test_moments_merge_to_those_of_the_whole():
    rng = np.random.default_rng(1)
    parts = [rng.gamma(1.5, 2.0, (3, n)) + np.array([[0.0], [100.0], [-1e3]]) for n in (1, 7, 400, 33)]
    merged = Moments.of(parts[0])
    for part in parts[1:]:
        merged = merged.merge(Moments.of(part))
    whole = np.concatenate(parts, 1)
    np.testing.assert_allclose(merged.mean, whole.mean(1), rtol=1e-12)
    np.testing.assert_allclose(merged.std, whole.std(1), rtol=1e-10)
    np.testing.assert_allclose(merged.kurtosis, stats.kurtosis(whole, axis=1), rtol=1e-7)
    pooled = merged.pooled()
    assert pooled.std[0] == pytest.approx(whole.std(), rel=1e-10)
    assert pooled.kurtosis[0] == pytest.approx(stats.kurtosis(whole, axis=None), rel=1e-8)


def test_streamed_figures_are_those_of_all_latents_at_once():
    pairs = list(random_pairs(7))
    found = report_of(pairs)
    assert found["images"] == 7
    initial, optimized = (np.stack(side).astype(np.float64) for side in zip(*pairs, strict=True))
    means, sigmas = initial.mean((1, 2, 3)), initial.std((1, 2, 3))
    for name, latents in (("initial", initial), ("optimized", optimized)):
        side = found[name]
        flat = np.moveaxis(latents, 1, 0).reshape(3, -1)
        np.testing.assert_allclose(side["channel_mean"], flat.mean(1), rtol=1e-5)
        np.testing.assert_allclose(side["channel_std"], flat.std(1), rtol=1e-5)
        np.testing.assert_allclose(side["channel_kurtosis"], stats.kurtosis(flat, axis=1), rtol=1e-5)
        assert side["mean"] == pytest.approx(flat.mean(), rel=1e-5)
        assert side["std"] == pytest.approx(flat.std(), rel=1e-5)
        assert side["kurtosis"] == pytest.approx(stats.kurtosis(flat, axis=None), rel=1e-5)
        relative = (latents - means.reshape(-1, 1, 1, 1)) / sigmas.reshape(-1, 1, 1, 1)
        assert (side["min"], side["max"]) == pytest.approx((latents.min(), latents.max()), rel=1e-5)
        assert (side["min_sigma"], side["max_sigma"]) == pytest.approx((relative.min(), relative.max()), rel=1e-5)
        assert side["beyond_4_sigma"] == pytest.approx((abs(relative) > 4).mean(), rel=1e-5)
        assert side["beyond_4_sigma"] > 0
    distance = np.sqrt(((optimized - initial) ** 2).mean((1, 2, 3))) / sigmas
    assert found["sigma"] == pytest.approx(sigmas.mean(), rel=1e-5)
    assert found["distance"] == pytest.approx({"mean": distance.mean(), "max": distance.max()}, rel=1e-5)


def test_reports_of_parts_merge_to_the_whole(small_vae, targets):
    """Through JSON; the decoded sample is the first part's, and a part without pictures changes nothing."""
    pairs = list(random_pairs(7, (4, 4, 4)))
    parts = [LatentReport() for _ in range(4)]
    pixels = ((targets[0] + 1) * 127.5).byte().permute(1, 2, 0).numpy()
    for part, some in zip(parts, (pairs[:3], pairs[3:], []), strict=False):  # together, as a shard's are
        part.add([record(initial, optimized, target=pixels) for initial, optimized in some])
    parts[0].decode(small_vae)
    whole, merged = report_of(pairs), LatentReport()
    for part in parts:
        merged.merge(strict(part.state()))
    found = strict(merged.summary())
    assert found.pop("sample") == 1
    for name in ("initial", "optimized"):
        assert found[name].pop("psnr_loss").keys() == {"fp16", "bf16", "noise_0.01", "noise_0.03", "noise_0.1"}
        assert found[name].pop("noise_psnr").keys() == {"noise_0.01", "noise_0.03", "noise_0.1"}
        assert found[name].pop("interpolation").keys() == {"decoded_psnr", "picture_psnr"}
    assert found.pop("pairs") == 1
    assert "Not measured" in whole.pop("verdict")["text"]
    assert "Not measured" not in found.pop("verdict")["text"]
    assert found.pop("against_encoder").items() > whole.pop("against_encoder").items()
    assert json.dumps(found) == json.dumps(whole)


def test_spectrum_keeps_all_power_and_finds_each_wave():
    latents = np.random.default_rng(2).standard_normal((4, 9, 12))
    spectrum = Spectrum()
    spectrum.add(latents[None])
    assert spectrum.counts.sum() == latents.size
    assert spectrum.sums.sum() == pytest.approx((latents**2).sum())  # Parseval
    x = np.arange(32)
    for cycles, band in ((0, 0), (1, 0), (2, 1), (7, 3), (8, 4), (16, 7)):
        wave = Spectrum()
        wave.add(np.tile(np.cos(2 * np.pi * cycles * x / 32), (1, 1, 32, 1)))
        assert wave.sums.argmax() == band
        assert wave.sums[band] == pytest.approx(wave.sums.sum())
        assert wave.high_share == pytest.approx(float(band >= BANDS // 2), abs=1e-9)


def test_white_change_is_flat_and_a_smooth_one_is_low():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:32, 0:32] / 32
    smooth = 0.1 * np.cos(2 * np.pi * x) + 0.1 * np.sin(2 * np.pi * y) + 0.05
    starts = rng.standard_normal((20, 4, 32, 32))
    white = report_of((z, z + 0.3 * rng.standard_normal(z.shape)) for z in starts)["change"]
    np.testing.assert_allclose(white["spectrum"], 0.09, rtol=0.15)
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32)))
    assert white["high_frequency_share"] == pytest.approx((frequencies >= 0.25).mean(), abs=0.008)
    low = report_of((z, z + smooth) for z in starts)["change"]
    assert low["spectrum"][0] > 1e6 * max(low["spectrum"][1:])
    assert low["high_frequency_share"] < 1e-6


def test_an_outlier_raises_kurtosis_and_range():
    initial = np.random.default_rng(4).standard_normal((2, 32, 32)).astype(np.float32)
    optimized = initial.copy()
    optimized[1, 5, 5] = 40.0
    found = report_of([(initial, optimized)])
    before, after = found["initial"], found["optimized"]
    assert abs(before["kurtosis"]) < 0.3
    assert after["kurtosis"] > 100
    assert after["channel_kurtosis"][0] == before["channel_kurtosis"][0]
    assert after["max"] == 40.0
    assert after["max_sigma"] == pytest.approx(40 / initial.std(), rel=0.01)
    assert after["beyond_4_sigma"] - before["beyond_4_sigma"] == pytest.approx(1 / initial.size, rel=1e-4)


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 1, 1), (1, 5, 3), (3, 2, 4, 4), (6,)])
def test_any_shape_and_flat_latents_give_strict_json(shape, tmp_path):
    latents = np.random.default_rng(5).standard_normal(shape)
    for initial, optimized in ((latents, latents), (latents, latents + 0.1), (np.full(shape, 0.1), np.zeros(shape))):
        found = report_of([(initial, optimized)] * 2)
        assert found["distance"]["mean"] >= 0
        assert len(found["initial"]["spectrum"]) == BANDS
        assert all(len(row) == 3 for row in latent_rows(found))
        latent_figure(found, tmp_path / "latents.png")
    assert found["initial"]["channel_kurtosis"] == [None] * shape[0]


def test_rounding_and_noise_cost_what_they_should():
    pixels = picture(64, 64)
    target = torch.from_numpy(pixels).permute(2, 0, 1).numpy() / 127.5 - 1.0
    start = target + 0.1 * np.random.default_rng(6).standard_normal(target.shape)
    autoencoder = relatent.Autoencoder(lambda z: z / 1e4, name="large")
    report = LatentReport()
    report.add([record(start * 1e4, target * 1e4, pixels)])
    report.decode(autoencoder)
    found = strict(report.summary())
    assert found["sample"] == 1
    initial, optimized = found["initial"]["psnr_loss"], found["optimized"]["psnr_loss"]
    # at 1e4 neighbours are 8 apart in fp16 and 64 in bf16; the exact latent, at 100 dB, loses all that rounding adds
    rounded = {name: torch.tensor(target * 1e4).float().to(dtype).double() / 1e4 for name, dtype in
               (("fp16", torch.float16), ("bf16", torch.bfloat16))}  # fmt: skip
    for name, image in rounded.items():
        error = ((image.clamp(-1, 1).numpy() - target) ** 2).mean()
        assert optimized[name] == pytest.approx(100 - 10 * np.log10(4 / error), abs=0.05)
    assert 10 < optimized["fp16"] < optimized["bf16"] - 10
    assert 0 < initial["bf16"] < 0.1
    assert initial["noise_0.01"] < initial["noise_0.03"] < initial["noise_0.1"]


def test_what_overflows_is_null_and_a_decoder_that_fails_is_told(caplog):
    pixels = picture(16, 16)
    z = np.random.default_rng(7).standard_normal((3, 16, 16)) * 1e5
    report = LatentReport()
    report.add([record(z, z, pixels)])
    report.decode(relatent.Autoencoder(lambda z: z / 1e5, name="huge"))
    found = strict(report.summary())
    assert found["initial"]["psnr_loss"]["fp16"] is None
    assert found["initial"]["psnr_loss"]["bf16"] is not None

    def broken(z):
        raise RuntimeError("no such thing\nand more")

    report = LatentReport()
    report.add([record(z, z, pixels)])
    report.decode(relatent.Autoencoder(broken, name="broken"))
    found = strict(report.summary())
    assert found["error"] == "RuntimeError: no such thing"
    assert "psnr_loss" not in found["initial"]
    assert found["initial"]["std"] > 0
    assert "incomplete" in caplog.text


def test_nothing_to_report():
    report = LatentReport()
    report.decode(relatent.Autoencoder(lambda z: z, name="identity"))
    assert report.summary() == {}
    report.add([record(np.zeros((2, 3, 3)), np.zeros((4, 3, 3)))])  # no pair
    assert "could not be broadcast" in report.summary()["error"]
    assert latent_rows(report.summary()) == []


def test_a_run_reports_its_latents(photographs, tmp_path, small_vae, capsys):
    out = tmp_path / "out"
    config = relatent.OptimizationConfig(iterations=4)
    run = relatent.optimize_directory(
        photographs, out, small_vae, config=config, size=32, batch_size=3, formats=["hdf5", "png"]
    )
    records = [one for batch in RunFolder.open(out).records() for one in batch]
    found = run["latents"]
    assert found["images"] == 4
    assert found["sample"] == 1
    optimized = np.stack([one.optimized_latents for one in records])
    np.testing.assert_allclose(found["optimized"]["channel_std"], optimized.std((0, 2, 3)), rtol=1e-4)
    assert set(found["optimized"]["psnr_loss"]) == {"fp16", "bf16", "noise_0.01", "noise_0.03", "noise_0.1"}
    assert run["seconds"]["report"] > 0
    again = LatentReport()  # the shards give the same
    for one in records:
        again.add([one])
    again.decode(small_vae, run["precision"])
    assert strict(again.summary()) == strict(found)
    assert main(["info", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "excess kurtosis" in printed
    assert "σ on average" in printed
    assert "## The latents" in (out / "png" / "README.md").read_text(encoding="utf-8")
    assert len(np.unique(np.asarray(Image.open(out / "png" / "latents.png")))) > 30


def test_a_run_without_pictures_or_without_records(photographs, tmp_path, small_vae):
    config = relatent.OptimizationConfig(iterations=2)
    run = relatent.optimize_directory(
        photographs, tmp_path / "out", small_vae, config=config, size=32, keep_images=False
    )
    assert set(run["latents"]["initial"]["psnr_loss"]) >= {"fp16", "bf16"}
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_text("nothing")
    run = relatent.optimize_directory(tmp_path / "bad", tmp_path / "none", small_vae, config=config, size=32)
    assert run["latents"] == {}


def test_an_interrupted_run_reports_what_it_has(photographs, tmp_path, small_vae, monkeypatch):
    batches = Batcher.batches

    def interrupted(self, *pictures):
        for outcome in batches(self, *pictures):
            assert not any(isinstance(item, Failure) for item in outcome)
            yield outcome
            raise KeyboardInterrupt

    monkeypatch.setattr(Batcher, "batches", interrupted)
    config = relatent.OptimizationConfig(iterations=2)
    with pytest.raises(KeyboardInterrupt):
        relatent.optimize_directory(photographs, tmp_path / "out", small_vae, config=config, size=32, batch_size=1)
    run = RunFolder.open(tmp_path / "out").record.to_json()
    assert run["status"] == "interrupted"
    assert run["latents"]["images"] == run["counts"]["done"] == 1
    assert "psnr_loss" not in run["latents"]["initial"]  # nobody waits for it
