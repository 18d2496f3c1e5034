import json

import numpy as np
import pytest
import relatent
import torch
from relatent.engine.errors import UsageError
from relatent.exporters.formats.onnx import export_onnx

onnxruntime = pytest.importorskip("onnxruntime")


def test_decoder_and_encoder_with_a_dynamic_batch(tmp_path, vae_folder):
    vae = relatent.load_autoencoder(vae_folder, device="cpu")
    result = export_onnx(vae, tmp_path / "small.onnx", size=32)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small-encoder.onnx", "small.onnx"]
    decoder, encoder = (onnxruntime.InferenceSession(result[part]["path"]) for part in ("decoder", "encoder"))
    for count in (1, 2, 5):
        torch.manual_seed(count)
        latents, images = torch.randn(count, 4, 4, 4), torch.rand(count, 3, 32, 32) * 2 - 1
        with torch.no_grad():
            np.testing.assert_allclose(
                decoder.run(None, {"latents": latents.numpy()})[0], vae.decode(latents), atol=1e-3
            )
            np.testing.assert_allclose(encoder.run(None, {"image": images.numpy()})[0], vae.encode(images), atol=1e-3)
    properties = decoder.get_modelmeta().custom_metadata_map
    assert properties["latents_scaled"] == "false"
    assert json.loads(properties["vae"])["weights_sha256"] == vae.weights_sha256


def test_refusals(tmp_path, small_vae):
    with pytest.raises(UsageError, match=r"ends in \.onnx"):
        export_onnx(small_vae, tmp_path / "small.bin")
    with pytest.raises(UsageError, match="torch module"):
        export_onnx(relatent.load_autoencoder(lambda z: z, name="plain"), tmp_path / "a.onnx")
    with pytest.raises(UsageError, match="latent_channels"):
        export_onnx(relatent.load_autoencoder(torch.nn.Conv2d(3, 3, 1)), tmp_path / "a.onnx")
    with pytest.raises(UsageError, match="try 56 or 64"):
        export_onnx(small_vae, tmp_path / "a.onnx", size=60)
    assert list(tmp_path.iterdir()) == []
