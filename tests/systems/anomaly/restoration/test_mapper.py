"""Restoration as a method that makes maps: values, priors from the checkpoint and from normal volumes, refusals."""

import json

import numpy as np
import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.data.errors import FoldsError
from relatent.systems.anomaly.data.volume_folder import read_folder
from relatent.systems.anomaly.maps.reader import MapReader
from relatent.systems.anomaly.maps.run import write_maps
from relatent.systems.anomaly.restoration.fitted import fitted_normality
from relatent.systems.anomaly.restoration.mapper import RestorationMapper
from relatent.systems.anomaly.restoration.settings import RestorationSettings, restoration_config
from tiny_vqvae import save_checkpoint, write_volumes

QUICK = restoration_config("fast", iterations=4, precision="fp32")


@pytest.fixture
def place(tmp_path):
    """A checkpoint, and volumes to judge and to fit to, of other patients."""
    save_checkpoint(tmp_path / "last.ckpt", dataset={"volume_size": 16})
    write_volumes(tmp_path / "volumes", 3)
    write_volumes(tmp_path / "others", 12, seed=1)
    for path in sorted((tmp_path / "others").rglob("vol_p*.npy")):
        path.rename(path.with_name(path.name.replace("vol_p", "vol_q")))
    index = tmp_path / "others" / "volumes.json"
    index.write_text(index.read_text().replace("vol_p", "vol_q"))
    return tmp_path


def test_the_map_is_what_restoration_leaves(place):
    mapper = RestorationMapper(place / "last.ckpt", RestorationSettings("nearest-code", 0.1, 2, QUICK))
    volumes, _ = read_folder(place / "volumes")
    write_maps(place / "out", volumes, mapper)
    with MapReader(place / "out") as maps:
        assert maps.method == "restoration"
        assert {"mean_error", "peak_error", "prior", "moved"} <= maps.scores.keys()
        assert (maps.scores["moved"] > 0).all()
        assert json.loads(json.dumps(mapper.identity())) == maps.identity
        assert (maps.identity["prior"], maps.identity["prior_weight"]) == ("nearest-code", 0.1)
        assert maps.identity["optimization"]["iterations"] == 4
        for i, volume in enumerate(volumes):
            expected = np.abs(volume.read(16) - maps.reconstruction(i))
            np.testing.assert_allclose(maps.error(i), expected, atol=1e-3)  # the file's reconstruction is fp16


def test_priors_come_from_the_checkpoint_or_from_normal_volumes(place):
    volumes, _ = read_folder(place / "volumes")
    arrays = [volume.read(16) for volume in volumes[:1]]
    settings = RestorationSettings("mixture", optimization=QUICK)
    with pytest.raises(UsageError, match="--normal"):
        RestorationMapper(place / "last.ckpt", settings)
    normality = fitted_normality(place / "out", place / "last.ckpt", place / "others", volumes, 16)
    again = fitted_normality(place / "out", place / "last.ckpt", place / "others", volumes, 16)
    contents = torch.load(place / "last.ckpt", weights_only=True)
    torch.save(contents | {"normality": normality.state()}, place / "with_priors.ckpt")
    made = [
        RestorationMapper(place / "last.ckpt", settings, normality),
        RestorationMapper(place / "last.ckpt", settings, again),
        RestorationMapper(place / "with_priors.ckpt", settings),
    ]
    assert len({mapper.identity()["prior_sha256"] for mapper in made}) == 1
    errors = [mapper.map(arrays)[0].error for mapper in made]
    for error in errors[1:]:
        np.testing.assert_array_equal(error, errors[0])


def test_what_does_not_fit_is_refused(place):
    volumes, _ = read_folder(place / "volumes")
    others, _ = read_folder(place / "others")
    with pytest.raises(FoldsError, match=r"patient q000 is in .* and among the volumes to be judged"):
        fitted_normality(place / "out", place / "last.ckpt", place / "others", others, 16)
    normality = fitted_normality(place / "out", place / "last.ckpt", place / "others", volumes, 16)
    with pytest.raises(UsageError, match="name another folder"):
        fitted_normality(place / "out", place / "last.ckpt", place / "others", volumes, 24)
    with pytest.raises(UsageError, match="fit them again"):
        RestorationMapper(place / "last.ckpt", RestorationSettings("mixture"), normality, side=24)
    with pytest.raises(UsageError, match="multiple of 8"):
        RestorationMapper(place / "last.ckpt", RestorationSettings("none"), side=20)
