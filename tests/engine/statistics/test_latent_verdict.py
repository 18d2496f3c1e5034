"""What is decoded again for the latent report, and the verdict: on latents and decoders whose answer is known."""

import json

import numpy as np
import pytest
import relatent
import torch
from relatent.engine.loop_decoder import LoopDecoder
from relatent.engine.records import Record
from relatent.engine.statistics.decoded_sample import Kept, Sample
from relatent.engine.statistics.latent_report import LatentReport
from relatent.engine.statistics.latent_verdict import against_encoder, verdict
from relatent.exporters.summaries.latents import latent_figure, latent_rows, latent_verdict

CUBE = relatent.Autoencoder(lambda z: z**3, name="cube")  # amplifies noise, and bends, the more the larger its input is


def record(initial, optimized, picture=None):
    kept = [np.asarray(latents, np.float32) for latents in (initial, optimized)]
    if picture is None:
        picture = np.zeros((*kept[0].shape[-2:], 3), np.uint8)
    return Record(*kept, [1.0], None, "iterations", {}, "a", "all", "a.png", (8, 8), target=picture)


def smooth(count, size=16):
    """Latents (3, size, size) of two low waves and a weak high one, at most 0.8."""
    y, x = np.mgrid[0:size, 0:size] / size
    for i in range(count):
        wave = np.cos(2 * np.pi * (x + i / 7)) + np.sin(2 * np.pi * (y - i / 5)) + 0.1 * np.cos(2 * np.pi * 6 * x)
        yield np.stack([wave, -wave, 0.5 * wave]) * (0.2 + 0.02 * i)


def report_of(pairs, autoencoder=CUBE, **kinds):
    report = LatentReport(**kinds)
    for initial, optimized in pairs:
        report.add([record(initial, optimized)])
    report.decode(autoencoder)
    assert report.error is None
    return json.loads(json.dumps(report.summary(), allow_nan=False))


def test_latents_that_are_the_encoders_are_similar():
    found = report_of((z, z) for z in smooth(9))
    assert (found["sample"], found["pairs"]) == (2, 2)
    assert found["initial"] == found["optimized"]
    compared = found["against_encoder"]
    assert (compared.pop("distance"), compared.pop("std_ratio"), compared.pop("high_frequency_ratio")) == (0, 1, 1)
    assert compared.keys() == {"psnr_loss", "noise_psnr", "interpolation"}
    assert {value for figures in compared.values() for value in figures.values()} == {0}
    assert found["verdict"]["status"] == "similar"
    assert found["verdict"]["text"].startswith("No difference")


def test_white_noise_on_latents_is_found_by_each_figure():
    rng = np.random.default_rng(0)
    found = report_of((z, z + 0.3 * rng.standard_normal(z.shape)) for z in smooth(9))
    before, after, compared = found["initial"], found["optimized"], found["against_encoder"]
    assert after["high_frequency_share"] > 2 * before["high_frequency_share"]
    assert compared["high_frequency_ratio"] == pytest.approx(
        after["high_frequency_share"] / before["high_frequency_share"], rel=1e-4
    )
    for figure, variant in (("noise_psnr", "noise_0.1"), ("interpolation", "decoded_psnr")):
        assert compared[figure][variant] == pytest.approx(after[figure][variant] - before[figure][variant], abs=1e-3)
        assert compared[figure][variant] < -1
    found = found["verdict"]
    assert found["status"] == "differs"
    for words in (
        "moved from the encoder's: ",
        "standard deviation: ×",
        "high frequencies: ×",
        "noise of 0.1 σ: -",
        "half way to another latent: -",
        "--preset train",
        "--preset fast",
    ):
        assert words in found["text"]
    assert "Within" not in found["text"]
    assert "Not measured" not in found["text"]


def test_a_smoother_change_is_no_high_frequency():
    found = report_of((z, 1.01 * z) for z in smooth(9))
    assert found["against_encoder"]["high_frequency_ratio"] == pytest.approx(1, rel=1e-4)
    assert found["verdict"]["status"] == "similar"


def test_latents_that_moved_far_differ_even_where_they_are_smooth():
    first, limits = list(smooth(9)), ("moved from the encoder's: 2.00 σ", "standard deviation: ×3.00")
    found = report_of(((z, 3 * z) for z in first), relatent.Autoencoder(lambda z: z, name="identity"))
    assert found["against_encoder"]["distance"] == found["distance"]["mean"] == pytest.approx(2, rel=0.01)
    assert found["verdict"]["status"] == "differs"
    assert all(words in found["verdict"]["text"].split(" Within")[0] for words in limits)
    near = report_of(((z, 1.2 * z) for z in first), relatent.Autoencoder(lambda z: z, name="identity"))
    assert near["verdict"]["status"] == "similar"


def test_noise_and_midpoints_are_measured_against_the_latents_own_pictures():
    """A linear decoder bends nothing and amplifies alike; the same noise costs the exact latent more of its PSNR."""
    pictures = [np.random.default_rng(i).integers(60, 190, (16, 16, 3), dtype=np.uint8) for i in range(2)]
    report = LatentReport()
    for i, picture in enumerate(pictures):
        z = picture.transpose(2, 0, 1) / 127.5 - 1
        report.add([record(z + 0.1 * np.random.default_rng(9 + i).standard_normal(z.shape), z, picture)])
    report.decode(relatent.Autoencoder(lambda z: z, name="identity"))
    found = report.summary()
    compared = found["against_encoder"]
    assert compared["noise_psnr"]["noise_0.1"] == pytest.approx(0, abs=0.01)
    assert compared["psnr_loss"]["noise_0.1"] > 10
    assert found["optimized"]["interpolation"] == {"decoded_psnr": 100, "picture_psnr": 100}
    assert found["initial"]["interpolation"]["decoded_psnr"] == 100
    assert found["initial"]["interpolation"]["picture_psnr"] == pytest.approx(26 + 3, abs=0.5)  # the mean of two errors


def test_what_cannot_be_measured_is_said():
    z = next(smooth(1))
    found = report_of([(z, z)])  # one picture
    assert (found["sample"], found["pairs"]) == (1, 0)
    assert "interpolation" not in found["initial"]
    assert found["verdict"]["status"] == "incomplete"
    assert "Not measured: PSNR decoded half way to another latent. " in found["verdict"]["text"]
    noisy = report_of([(z, z + 0.3 * np.random.default_rng(1).standard_normal(z.shape))])["verdict"]
    assert noisy["status"] == "differs"  # what was measured suffices
    assert "Not measured" in noisy["text"]
    report = LatentReport()
    report.add([record(z, z)])
    text = report.summary()["verdict"]["text"]  # interrupted: nothing is decoded
    assert "Not measured: PSNR decoded with noise of 0.1 σ; PSNR decoded half way" in text
    flat = report_of([(np.full((3, 8, 8), 0.5), np.full((3, 8, 8), 0.5))] * 2)
    assert flat["against_encoder"]["high_frequency_ratio"] is None
    assert flat["pairs"] == 0  # a copy is no neighbour
    assert flat["verdict"]["status"] == "incomplete"
    overflow = report_of([(z, z), (2 * z, 2 * z)], relatent.Autoencoder(lambda z: z * float("nan"), name="overflow"))
    assert overflow["against_encoder"]["noise_psnr"]["noise_0.1"] is None
    assert overflow["optimized"]["noise_psnr"]["noise_0.1"] is None
    assert overflow["verdict"]["status"] == "incomplete"


def test_the_neighbour_is_the_nearest_of_its_size():
    def kept(value, size=4):
        return Kept.of(record(np.full((3, size, size), value), np.zeros((3, size, size))), masked=False)

    sample = Sample(kept(0.0), 1.0)
    for value, size in ((0.1, 8), (0.0, 4), (3.0, 4), (-1.0, 4), (2.0, 4)):
        sample.consider(kept(value, size))
    assert sample.neighbour.initial[0, 0, 0] == -1.0
    report = LatentReport()  # of several sizes, and later images are neighbours too
    for value, size in ((0.0, 4), (5.0, 4), (0.1, 8), (1.0, 4), (5.2, 4), (0.3, 8)):
        report.add([record(np.full((3, size, size), value), np.zeros((3, size, size)))])
    neighbours = [one.neighbour.initial[0, 0, 0] for one in report.sample]
    assert neighbours == pytest.approx([1.0, 5.2, 0.3, 0.0])


def test_latents_with_a_time_axis():
    rng = np.random.default_rng(2)
    pairs = [(z[:, None], z[:, None] + 0.3 * rng.standard_normal((3, 1, 16, 16))) for z in smooth(3)]
    frames = relatent.Autoencoder(lambda z: z[:, :, 0] ** 3, name="frames")
    found = report_of(pairs, frames)
    assert found["pairs"] == 1
    assert found["verdict"]["status"] == "differs"


def test_at_most_eighteen_decodings_an_image():
    calls = []
    counting = relatent.Autoencoder(lambda z: calls.append(1) or z**3, name="counting")
    report_of([(z, z) for z in smooth(32)], counting)
    assert len(calls) == 4 * 16
    one, other = (Kept.of(record(z, z), masked=True) for z in smooth(2))
    sample = Sample(one, 0.3)
    sample.consider(other)
    exact, fast = (
        LoopDecoder.of(lambda z: calls.append(1) or z**3, dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    calls.clear()
    sample.measure(exact, fast, torch.device("cpu"))  # with a mask, the PSNR of the whole picture is not known
    assert len(calls) == 18


def test_shards_and_runs_of_earlier_versions(tmp_path):
    z = list(smooth(2))
    report, whole = LatentReport(), LatentReport()
    for one in z:
        report.add([record(one, one)])
    report.decode(CUBE)
    state = json.loads(json.dumps(report.state()))
    losses = {side: figures["psnr_loss"] for side, figures in state.pop("decoded").items()}
    del state["pairs"]
    whole.merge(state | {"psnr": losses})
    found = whole.summary()
    assert found["optimized"]["psnr_loss"] == losses["optimized"]
    assert (found["sample"], found["pairs"], found["verdict"]["status"]) == (1, 0, "incomplete")
    assert found["against_encoder"]["psnr_loss"]["noise_0.1"] == 0
    old = {key: value for key, value in found.items() if key not in ("pairs", "against_encoder", "verdict")}
    assert latent_verdict(old) == latent_verdict(found) == found["verdict"]["text"]
    assert ("half way, PSNR (dB)", "–", "–") in latent_rows(old)
    latent_figure(old, tmp_path / "latents.png")


@pytest.mark.parametrize(
    ("moved", "spread", "ratio", "noise", "status"),
    [
        (0.7, 1.25, 1.25, -2.4, "similar"), (0.71, 1, 1, 0, "differs"), (0, 1.26, 1, 0, "differs"),
        (0, 1, 1.26, 0, "differs"), (0, 0.5, 0.5, -2.5, "differs"),
    ],
)  # fmt: skip
def test_limits(moved, spread, ratio, noise, status):
    sides = [{"std": std, "high_frequency_share": share, "noise_psnr": {"noise_0.1": level}, "interpolation": {"decoded_psnr": 30.0}}
             for std, share, level in ((1.0, 1.0, 0.0), (spread, ratio, noise))]  # fmt: skip
    found = verdict(against_encoder({"distance": {"mean": moved}, "initial": sides[0], "optimized": sides[1]}))
    assert found["status"] == status
    assert ("Within the limits" in found["text"]) == (status == "differs")
