"""The trained models that the package has."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.engine.inputs.images import load_image
from relatent.systems.codec.bitstream.image_codec import ImageCodec
from relatent.systems.codec.bundled import FOLDER, find_codec, load_codec, qualities
from relatent.systems.codec.errors import BitstreamError
from relatent.systems.codec.evaluation.classic import CLASSICS
from relatent.systems.codec.measures import measure

DECODE = """
import sys
import numpy as np
from relatent.systems.codec.bundled import find_codec
from relatent.systems.codec.bitstream.container import model_of
data = open(sys.argv[1], "rb").read()
np.save(sys.argv[2], find_codec(model_of(data))[1].decompress(data).numpy())
"""


@pytest.fixture(scope="module")
def bundled() -> list[ImageCodec]:
    return [load_codec(quality) for quality in qualities()]


def photograph(folder: Path) -> torch.Tensor:
    """One of BSDS500's test photographs, which no model was trained on."""
    path = sorted((folder / "test").glob("*.jpg"))[0]
    return torch.from_numpy(load_image(path, None).pixels).permute(2, 0, 1)


def test_three_rates_at_least_within_eight_megabytes(bundled):
    assert qualities()[:3] == [1, 2, 3]
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 8e6
    assert sorted({codec.lmbda for codec in bundled}) == [codec.lmbda for codec in bundled]


def test_the_record_names_the_models(bundled):
    record = json.loads((FOLDER / "training.json").read_text(encoding="utf-8"))
    assert [entry["sha256"] for entry in record["models"].values()] == [codec.sha256.hex() for codec in bundled]


def test_models_are_found_by_their_files(bundled):
    for quality, codec in zip(qualities(), bundled, strict=True):
        assert find_codec(codec.sha256[:8])[0] == quality
    with pytest.raises(BitstreamError, match="none of the bundled ones"):
        find_codec(bytes(8))
    with pytest.raises(UsageError, match="expected one of 1, 2, 3"):
        load_codec(99)


def test_a_photograph_takes_fewer_bits_than_as_jpeg(bundled, bsds500):
    image = photograph(bsds500)
    (jpeg,) = [codec for codec in CLASSICS if codec.name == "JPEG"]
    curve = sorted((jpeg.measure(image, quality) for quality in range(2, 90, 3)), key=lambda file: file.psnr)
    found = [measure(image, codec.encode(image), codec.lmbda) for codec in bundled]
    assert sorted(one.psnr for one in found) == [one.psnr for one in found]
    for one in found:
        assert one.bpp < np.interp(one.psnr, [file.psnr for file in curve], [file.bpp for file in curve])


def test_another_process_returns_the_encoders_picture(bundled, bsds500, tmp_path):
    encoded = bundled[-1].encode(photograph(bsds500)[:, :200, :171])
    (tmp_path / "a.rlc").write_bytes(encoded.data)
    estimate = sum(encoded.ideal_bits.values()) / 8
    assert len(encoded.data) <= 1.01 * estimate + 32
    subprocess.run([sys.executable, "-c", DECODE, tmp_path / "a.rlc", tmp_path / "a.npy"], check=True)
    assert np.array_equal(np.load(tmp_path / "a.npy"), encoded.reconstruction.numpy())
