"""The evaluation of a small model on small pictures."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from relatent.engine.errors import UsageError
from relatent.systems.codec.bitstream.image_codec import ImageCodec, padded
from relatent.systems.codec.evaluation import evaluate as evaluate_module
from relatent.systems.codec.evaluation.classic import CLASSICS
from relatent.systems.codec.evaluation.evaluate import OURS, REFINED, evaluate, points_of
from relatent.systems.codec.evaluation.pictures import find_pictures
from relatent.systems.codec.measures import measure
from synthetic_pictures import picture_of

FEW = [replace(codec, qualities=codec.qualities[::3]) for codec in CLASSICS]
FACTORS = (("twice", 2), ("half", 0.5))
SIZES = {"a.png": (64, 96), "b.png": (70, 41)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for seed, (name, (height, width)) in enumerate(SIZES.items()):
        Image.fromarray(picture_of(height, width, seed).permute(1, 2, 0).numpy()).save(folder / name)
    (folder / "c.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return folder


@pytest.fixture(scope="module")
def lines():
    return []


@pytest.fixture(scope="module")
def result(folder, codec, lines):
    other = ImageCodec(codec.model, codec.tables, 0.05)
    return evaluate(find_pictures(folder), {"1": codec, "2": other}, FEW, progress=lines.append)


def test_rows_are_the_measures_of_the_files(result, codec):
    rate = result["curves"][OURS]["rates"][1]
    assert rate["quality"] == "2"
    for seed, (row, (name, size)) in enumerate(zip(rate["pictures"], SIZES.items(), strict=True)):
        image = picture_of(*size, seed)
        encoded = codec.encode(image)
        expected = measure(image, encoded, 0.05)
        assert row["name"] == name
        assert (row["bytes"], row["bpp"], row["psnr"], row["rd_cost"]) == (
            len(encoded.data),
            encoded.bpp,
            expected.psnr,
            expected.rd_cost,
        )
        assert row["stream_bytes"] == encoded.stream_bytes
        assert row["ideal_bytes"] == {name: bits / 8 for name, bits in encoded.ideal_bits.items()}
        assert set(row["ideal_bytes"]) == {"z", "s1", "s2", "s3"}
        assert row["encode_seconds"] > 0
        assert row["decode_seconds"] > 0


def test_means_are_over_pictures(result):
    for curve in result["curves"].values():
        for rate in curve["rates"]:
            for key in ("bpp", "psnr", "bytes", "encode_seconds"):
                assert rate["mean"][key] == pytest.approx(sum(row[key] for row in rate["pictures"]) / 2)
    mean, rows = (result["curves"][OURS]["rates"][0][key] for key in ("mean", "pictures"))
    assert mean["stream_bytes"]["s2"] == sum(row["stream_bytes"]["s2"] for row in rows) / 2


def test_a_broken_picture_is_left_out_in_one_line(result, lines):
    assert result["pictures"]["names"] == list(SIZES)
    assert result["pictures"]["count"] == 2
    (failed,) = result["pictures"]["failed"]
    assert failed["name"] == "c.png"
    assert [line.split(":")[0] for line in lines] == ["1/3 a.png", "2/3 b.png", "3/3 c.png"]
    assert lines[2] == f"3/3 c.png: left out: {failed['error']}"
    assert not any("\n" in line for line in lines)


def test_the_result_is_json_and_names_the_models(result, codec):
    assert json.loads(json.dumps(result, allow_nan=False))["curves"][OURS]["kind"] == "ours"
    assert result["models"]["2"] == {"lambda": 0.05, "configuration": "tiny", "sha256": codec.sha256.hex()}
    assert result["curves"]["JPEG"]["settings"] == {"optimize": True, "subsampling": "4:2:0"}


def test_every_file_is_decoded_and_compared(result, folder, codec, monkeypatch):
    assert result["mismatches"] == 0
    calls = []

    def wrong(self, data):
        calls.append(data)
        decoded = decompress(self, data)
        if len(calls) == 1:
            decoded[0, 0, 0] ^= 1
        return decoded

    decompress = ImageCodec.decompress
    monkeypatch.setattr(ImageCodec, "decompress", wrong)
    again = evaluate(find_pictures(folder), {"1": codec}, [])
    assert again["mismatches"] == 1
    assert len(calls) == 2


def test_a_curve_without_a_bd_rate_says_why(result):
    """One model twice makes a curve of one point, which has none."""
    assert {(e["curve"], e["against"], e["source"]) for e in result["bd_rate"]} == {
        (OURS, classic.name, "measured") for classic in FEW
    }
    for entry in result["bd_rate"]:
        assert entry["percent"] is None
        assert "at least two points" in entry["reason"]


def test_bd_rates_are_those_of_the_mean_points(folder, codec, monkeypatch):
    """Four known points in place of the codec's own: half the bits of a published curve, twice those of another."""
    known = iter([(0.1, 20.0), (0.2, 25.0), (0.4, 29.0), (0.5, 30.0)])
    monkeypatch.setattr(
        evaluate_module, "_measure", lambda *_: dict(zip(("bpp", "psnr", "mismatch"), (*next(known), 0), strict=True))
    )
    psnrs = (20.0, 25.0, 29.0, 30.0)
    published = {name: list(zip([f * x for x in (0.1, 0.2, 0.4, 0.5)], psnrs, strict=True)) for name, f in FACTORS}
    found = evaluate({"a.png": folder / "a.png"}, dict.fromkeys("1234", codec), [], published)["bd_rate"]
    assert {entry["against"]: round(entry["percent"], 6) for entry in found} == {"twice": -50.0, "half": 100.0}
    assert all((entry["source"], entry["psnr"]) == ("published", [20.0, 30.0]) for entry in found)


def test_a_refinement_is_a_curve_of_its_own(folder, codec):
    def emptied(codec, image):
        with torch.inference_mode():
            y, z = codec.model.analyse(padded(image))
        return codec.encode_latents(torch.zeros_like(y), z, *image.shape[1:])

    found = evaluate({"a.png": folder / "a.png"}, {"1": codec}, [], refine=emptied)
    assert list(found["curves"]) == [OURS, REFINED]
    plain, refined = (found["curves"][name]["rates"][0]["pictures"][0] for name in (OURS, REFINED))
    image = picture_of(*SIZES["a.png"], 0)
    assert plain["bytes"] == len(codec.encode(image).data)
    assert refined["bytes"] == len(emptied(codec, image).data) != plain["bytes"]
    assert points_of(found["curves"][REFINED]) == [(refined["bpp"], refined["psnr"])]
    assert [(e["curve"], e["against"]) for e in found["bd_rate"]] == [(REFINED, OURS)]


def test_what_cannot_be_evaluated(folder, codec):
    with pytest.raises(UsageError, match="at least one model"):
        evaluate(find_pictures(folder), {})
    with pytest.raises(UsageError, match=r"none of 1 pictures could be used; the first: c\.png: "):
        evaluate({"c.png": folder / "c.png"}, {"1": codec})
