"""The detector as a mapper."""

import json

import numpy as np
import pytest
import torch
from cubes import LevelMapper
from relatent.engine.errors import UsageError
from relatent.engine.runtime.atomic import file_sha256
from relatent.systems.anomaly.detector import checkpoint as files
from relatent.systems.anomaly.detector.mapper import DetectorMapper, scores_of
from relatent.systems.anomaly.detector.network import UNet3D
from relatent.systems.anomaly.detector.settings import DetectorSettings


@pytest.fixture
def detector(tmp_path, base):
    torch.manual_seed(0)
    settings = DetectorSettings(channels=(4, 8), epochs=1)
    contents = {
        "settings": settings.to_dict(),
        "scale": 0.1,
        "base": base.identity(),
        "patients": ["p1"],
        "history": [],
        "network": UNet3D(settings.channels).state_dict(),
    }
    files.save(tmp_path / "detector.ckpt", contents)
    return tmp_path / "detector.ckpt"


def test_maps_are_probabilities_each_of_its_own_volume(base, detector):
    mapper = DetectorMapper(base, detector, "cpu")
    volumes = [np.random.default_rng(i).random((8, 8, 8), np.float32) for i in range(6)]
    mapped = mapper.map(volumes)
    for volume, one in zip(volumes, mapped, strict=True):
        plain = base.map([volume])[0]
        assert (one.error.dtype, one.error.shape) == (np.float32, (8, 8, 8))
        assert 0 <= one.error.min() < one.error.max() <= 1
        assert np.array_equal(one.reconstruction, plain.reconstruction)
        assert one.scores == {**plain.scores, **scores_of(one.error)}
        assert np.allclose(mapper.map([volume])[0].error, one.error, atol=1e-6)
        expected = torch.from_numpy(np.stack([plain.error / 0.1, volume]))[None]
        assert np.allclose(mapper.network(expected).sigmoid().detach().numpy()[0, 0], one.error, atol=1e-6)


def test_scores_by_hand():
    values = np.zeros((10, 20, 20), np.float32)
    values[0, 0, :5] = (0.9, 0.8, 0.7, 0.6, 0.5)
    found = scores_of(values)  # 0.1 % of 4000 voxels are four
    assert found == pytest.approx({"max_probability": 0.9, "top_probability": 0.75, "mean_probability": 3.5 / 4000})
    assert scores_of(np.full((2, 2, 2), 0.25, np.float32))["top_probability"] == 0.25


def test_its_identity(base, detector):
    mapper = DetectorMapper(base, detector, "cpu")
    identity = json.loads(json.dumps(mapper.identity()))
    assert identity.items() >= base.identity().items()
    assert identity["detector_sha256"] == file_sha256(detector)
    assert identity["detector_settings"]["labels"] == "boxes"
    assert (mapper.method, mapper.side, mapper.patients) == ("detector", 8, ["p1"])


def test_another_model_another_side_and_damaged_files_are_refused(base, detector, tmp_path):
    with pytest.raises(UsageError, match="maps of another model: model_sha256 differ"):
        DetectorMapper(LevelMapper("another"), detector)
    odd = LevelMapper()
    odd.side = 7
    with pytest.raises(UsageError, match="multiple of 2"):
        DetectorMapper(odd, detector)
    for contents in (b"", b"x" * 100, detector.read_bytes()[:2000]):
        path = tmp_path / "bad.ckpt"
        path.write_bytes(contents)
        with pytest.raises(UsageError, match=r"bad\.ckpt cannot be read as a detector"):
            DetectorMapper(base, path)
    torch.save({"kind": files.KIND, "schema": files.SCHEMA}, path)
    with pytest.raises(UsageError, match="is damaged"):
        DetectorMapper(base, path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(UsageError, match="cannot be read as a detector"):
        DetectorMapper(base, path)
    with pytest.raises(UsageError, match="cannot be read as a detector"):
        DetectorMapper(base, tmp_path / "none.ckpt")
