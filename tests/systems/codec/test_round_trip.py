"""A picture to a file and back, here and in another process."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.codec.bitstream.image_codec import ImageCodec, padded
from relatent.systems.codec.bitstream.model_folder import load_model, save_model
from relatent.systems.codec.errors import CodecModelError
from relatent.systems.codec.model.quantisers import hard_round
from synthetic_pictures import picture_of

SIZES = [(1, 1), (7, 500), (33, 65), (256, 256)]

DECODE = """
import sys
import numpy as np
import torch
from relatent.systems.codec.bitstream.model_folder import load_model
torch.set_num_threads(int(sys.argv[2]))
codec = load_model(sys.argv[1])
for name in sys.argv[3:]:
    np.save(name + ".npy", codec.decompress(open(name, "rb").read()).numpy())
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_another_process_decodes_the_encoders_reconstruction(codec, codec_folder, tmp_path, threads):
    encoded = {}
    for height, width in SIZES:
        path = tmp_path / f"{height}x{width}.rlc"
        encoded[path] = codec.encode(picture_of(height, width, 5))
        path.write_bytes(encoded[path].data)
    command = [sys.executable, "-c", DECODE, str(codec_folder), str(threads), *map(str, encoded)]
    subprocess.run(command, check=True, timeout=300)
    for path, one in encoded.items():
        decoded = np.load(f"{path}.npy")
        assert decoded.dtype == np.uint8
        assert np.array_equal(decoded, one.reconstruction.numpy())
        height, width = one.reconstruction.shape[1:]
        assert one.bpp == path.stat().st_size * 8 / (height * width)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_file_is_as_long_as_the_model_estimates(codec, height, width):
    image = picture_of(height, width, 6)
    with torch.inference_mode():
        output = codec.model(padded(image), hard_round)
    estimate = float(output.bits) / 8
    encoded = codec.encode(image)
    assert len(encoded.data) <= 1.01 * estimate + 32
    assert len(encoded.data) >= 0.99 * estimate - 32
    by_scale = [float(output.z_bits), *output.y_bits[0].tolist()]
    assert list(encoded.ideal_bits.values()) == pytest.approx(by_scale, rel=0.02, abs=16)
    assert sum(encoded.stream_bytes.values()) < len(encoded.data)
    difference = encoded.reconstruction - output.reconstruction[0, :, :height, :width].clamp(0, 1) * 255
    assert difference.abs().max() < 1.6  # half a level of rounding and what fixed point adds


def test_symbols_are_no_mere_zeros(codec):
    """Else the tests above would show little."""
    encoded = codec.encode(picture_of(256, 256, 6))
    assert min(encoded.stream_bytes.values()) > 30
    other = codec.encode(picture_of(256, 256, 7))
    assert not torch.equal(encoded.reconstruction, other.reconstruction)


def test_strips_give_the_same_picture(codec, codec_folder):
    encoded = codec.encode(picture_of(600, 40, 8))  # 40 rows of y
    in_strips = load_model(codec_folder)
    in_strips.strip_pixels = 1
    assert torch.equal(in_strips.decompress(encoded.data), encoded.reconstruction)


def test_values_beyond_the_tables_survive(codec):
    y, z = codec.model.analyse(padded(picture_of(64, 64, 9)))
    y, z = y.detach().clone(), z.detach().clone()
    y[0, 0, 1, 1], y[0, 1, 2, 2], z[0, 0] = 5000.0, -1e9, 700.0
    encoded = codec.encode_latents(y, z, 64, 64)
    assert torch.equal(codec.decompress(encoded.data), encoded.reconstruction)
    y[0, 0, 0, 0] = float("nan")
    with pytest.raises(UsageError, match="not finite"):
        codec.encode_latents(y, z, 64, 64)


@pytest.mark.parametrize(
    "image", [torch.zeros(3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8), torch.zeros(3, 0, 4, dtype=torch.uint8)]
)
def test_what_is_no_picture_is_refused(codec, image):
    with pytest.raises(UsageError, match="expected a picture of uint8"):
        codec.compress(image)


def test_a_saved_model_is_the_same_model(codec, codec_folder, tmp_path):
    again = load_model(codec_folder)
    assert again.sha256 == codec.sha256
    full = save_model(codec.model, tmp_path / "full", codec.lmbda)
    assert full.sha256 == load_model(tmp_path / "full").sha256 == codec.sha256  # its weights are float16 already
    changed = load_model(codec_folder).model
    with torch.no_grad():
        changed.synthesis[0].bias[0] += 0.5
    assert ImageCodec(changed, codec.tables).sha256 != codec.sha256


def test_a_model_is_loaded_strictly(codec_folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((codec_folder / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"latent_channels": 16}, "does not fit its configuration"),
        ({"latent_channels": 10**9}, "expected channel counts from 1 to 4096"),
        ({"widths": [8, 8]}, "three in widths"),
        ({"depth": 3}, "is no configuration of format 1"),
        ({"format": 2}, "is no configuration of format 1"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(CodecModelError, match=message) as caught:
            load_model(tmp_path)
        assert "\n" not in str(caught.value)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((codec_folder / "model.safetensors").read_bytes()[:-9])
    with pytest.raises(CodecModelError, match="cannot be read"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CodecModelError, match="cannot be read"):
        load_model(tmp_path)
