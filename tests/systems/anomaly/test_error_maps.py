"""Error maps: what is written, with where it comes from, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.exporters.files.atomic import file_sha256
from relatent.systems.anomaly.error_maps import checkpoint_provenance, write_error_maps
from relatent.systems.anomaly.model.checkpoint import load_model
from relatent.systems.anomaly.model.vqvae import build_vqvae_3d

CONFIG = {"hidden_channels": [4, 4, 8, 8], "embedding_dim": 8, "num_embeddings": 16}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    weights = {f"model.{name}": value for name, value in build_vqvae_3d(CONFIG).state_dict().items()}
    path = tmp_path / "last.ckpt"
    torch.save({"hyper_parameters": {"model": CONFIG, "training": {}}, "state_dict": weights}, path)
    return path


def test_maps_and_provenance(checkpoint, tmp_path):
    model, volumes = load_model(checkpoint), torch.rand(2, 1, 32, 32, 32)
    provenance = checkpoint_provenance(checkpoint)
    named = zip(("vol_a_L1.npy", "vol_b_T4"), volumes, strict=True)
    written = list(write_error_maps(model, named, tmp_path / "maps", provenance))
    assert [one.path.name for one in written] == ["error_vol_a_L1.npy", "error_vol_b_T4.npy"]
    for one, volume in zip(written, volumes, strict=True):
        error = np.load(one.path)
        assert (error.shape, error.dtype) == ((32, 32, 32), np.float32)
        np.testing.assert_array_equal(error, (volume - model(volume[None])[0]).abs()[0, 0].detach().numpy())
        about = json.loads(one.path.with_suffix(".json").read_text())
        assert about["sha256"] == file_sha256(one.path)
        assert about["checkpoint_sha256"] == file_sha256(checkpoint)
        assert about["configuration"]["model"] == CONFIG
        assert (about["mean_error"], about["max_error"]) == pytest.approx((error.mean(), error.max()))
    assert len(list((tmp_path / "maps").iterdir())) == 4


def test_names_that_leave_the_folder_are_refused(checkpoint, tmp_path):
    for name in ("../x.npy", "/x.npy", ""):
        with pytest.raises(UsageError, match="no name of a volume"):
            list(write_error_maps(load_model(checkpoint), [(name, torch.rand(1, 32, 32, 32))], tmp_path / "m", {}))


def test_damaged_and_foreign_checkpoints_are_refused(checkpoint, tmp_path):
    whole = torch.load(checkpoint, weights_only=True)
    for foreign in ({}, [1], {**whole, "hyper_parameters": {}}):
        torch.save(foreign, checkpoint)
        with pytest.raises(UsageError, match="cannot be read as a checkpoint"):
            load_model(checkpoint)
    torch.save({**whole, "hyper_parameters": {"model": {**CONFIG, "embedding_dim": 4}}}, checkpoint)
    with pytest.raises(UsageError, match="other weights than its configuration"):
        load_model(checkpoint)
    checkpoint.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="cannot be read as a checkpoint"):
        checkpoint_provenance(checkpoint)
    with pytest.raises(UsageError, match="No such file"):
        load_model(tmp_path / "none.ckpt")
