"""The plain error's maps: their values, what they say of their model, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from relatent.engine.autoencoders.weights_hash import weights_sha256
from relatent.engine.errors import UsageError
from relatent.engine.runtime.atomic import file_sha256
from relatent.systems.anomaly.maps.error_mapper import ErrorMapper
from relatent.systems.anomaly.maps.side import choose_side
from relatent.systems.anomaly.model.checkpoint import load_model
from tiny_vqvae import CONFIG, save_checkpoint


def test_the_map_is_the_absolute_error(checkpoint):
    mapper, volumes = (
        ErrorMapper(checkpoint, 16, batch_size=2),
        list(np.random.default_rng(0).random((3, 16, 16, 16), np.float32)),
    )
    found, model = mapper.map(volumes), load_model(checkpoint)
    assert len(found) == 3
    for volume, one in zip(volumes, found, strict=True):
        with torch.no_grad():
            expected = model(torch.from_numpy(volume)[None, None]).reconstruction[0, 0].numpy()
        assert (one.error.dtype, one.error.shape, one.reconstruction.dtype) == (np.float32, (16, 16, 16), np.float32)
        np.testing.assert_allclose(one.reconstruction, expected, atol=1e-5)
        np.testing.assert_array_equal(one.error, np.abs(volume - one.reconstruction))
        scores = one.error.mean(dtype=np.float64), one.error.max(), np.percentile(one.error, 99)
        assert tuple(one.scores[name] for name in ("mean_error", "max_error", "p99_error")) == pytest.approx(scores)


def test_identity_names_file_weights_and_configuration(checkpoint, tmp_path):
    identity = ErrorMapper(checkpoint, 16).identity()
    assert identity["checkpoint"] == checkpoint.name
    assert identity["checkpoint_sha256"] == file_sha256(checkpoint)
    assert identity["model_sha256"] == weights_sha256([load_model(checkpoint)])
    assert identity["configuration"]["model"] == CONFIG
    other = ErrorMapper(save_checkpoint(tmp_path / "other.ckpt", seed=1), 16).identity()
    assert other["model_sha256"] != identity["model_sha256"]


def test_bf16_is_another_identity_and_nearly_the_same_map(checkpoint):
    volume = [np.random.default_rng(0).random((16, 16, 16), np.float32)]
    fp32, bf16 = ErrorMapper(checkpoint, 16), ErrorMapper(checkpoint, 16, precision="bf16")
    assert fp32.identity() != bf16.identity()
    difference = np.abs(fp32.map(volume)[0].error - bf16.map(volume)[0].error)
    assert 0 < difference.mean() < 0.02


def test_values_that_do_not_fit_are_refused(checkpoint):
    for settings, message in (
        ({"side": 20}, "multiple of 8"),
        ({"side": 16, "batch_size": 0}, "batch size"),
        ({"side": 16, "precision": "fp8"}, "fp32 or bf16"),
        ({}, "does not state the side"),
    ):
        with pytest.raises(UsageError, match=message):
            ErrorMapper(checkpoint, **settings)


def test_the_side_is_that_of_the_training_else_of_the_volumes(checkpoint, volumes, tmp_path):
    assert choose_side(checkpoint, volumes(1, side=12)) == 16  # as the model takes it
    stated = save_checkpoint(tmp_path / "stated.ckpt", dataset={"volume_size": 24})
    assert choose_side(stated, []) == ErrorMapper(stated).side == 24
    fold = save_checkpoint(tmp_path / "fold_1" / "checkpoints" / "last.ckpt")
    (tmp_path / "fold_1" / "config.yaml").write_text("dataset:\n  volume_size: 32\n")
    assert ErrorMapper(fold).side == 32
    (tmp_path / "fold_1" / "config.yaml").write_text("dataset: [")
    with pytest.raises(UsageError, match="not one volume can be read"):
        choose_side(fold, [])


def test_damaged_and_foreign_checkpoints_are_refused(checkpoint: Path, tmp_path):
    whole = torch.load(checkpoint, weights_only=True)
    for foreign in ({}, [1], {**whole, "hyper_parameters": {}}):
        torch.save(foreign, checkpoint)
        with pytest.raises(UsageError, match="cannot be read as a checkpoint"):
            ErrorMapper(checkpoint, 16)
    torch.save({**whole, "hyper_parameters": {"model": {**CONFIG, "embedding_dim": 4}}}, checkpoint)
    with pytest.raises(UsageError, match="other weights than its configuration"):
        ErrorMapper(checkpoint, 16)
    checkpoint.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="cannot be read as a checkpoint"):
        ErrorMapper(checkpoint, 16)
    with pytest.raises(UsageError, match="No such file"):
        ErrorMapper(tmp_path / "none.ckpt", 16)
