"""Reconstructions of held-out pictures on the page of a validation."""

import json

import numpy as np
import pytest
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.data.spectrogram_folder import read_spectrograms
from relatent.systems.spectrogram.report.reconstruction import reconstructions
from relatent.systems.spectrogram.validation.pictures import load_pictures
from small_walkers import write_walkers
from tiny_diffusion import tiny_vae

pytestmark = pytest.mark.usefixtures("one_thread")


def test_pictures_of_each_user_above_what_comes_out(tmp_path):
    pictures = load_pictures(read_spectrograms(write_walkers(tmp_path / "real")), 16)  # the VAE is of 32 pixels
    found = reconstructions(tiny_vae(tmp_path / "vae"), pictures, 0.2)
    assert (found["shown"].shape, found["shown"].dtype) == ((2, 3, 32, 32, 3), np.uint8)
    originals, rebuilt = found["shown"]
    files = [pictures.paths[number].read_bytes() for number in (0, 13, 24)]  # first and second windows by turns
    shown = load_pictures(
        [item for item in read_spectrograms(tmp_path / "real") if item.path.read_bytes() in files], 32
    )
    assert np.array_equal(originals, shown.images.permute(0, 2, 3, 1).numpy())
    assert not np.array_equal(originals, rebuilt)
    error = np.square((originals.astype(float) - rebuilt) / 127.5).mean()
    assert found["psnr"] == pytest.approx(10 * np.log10(4 / error), abs=1.5)
    assert found["pictures"] == 36


def test_a_vae_that_held_out_other_recordings_is_refused(tmp_path):
    vae = tiny_vae(tmp_path / "vae")
    pictures = load_pictures(read_spectrograms(write_walkers(tmp_path / "real")), 32)
    with pytest.raises(UsageError, match=r"held out 0\.2 of the recordings, found held_out 0\.34"):
        reconstructions(vae, pictures, 0.34)
    path = vae / "vae_training.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "held_out"}))
    assert reconstructions(vae, pictures, 0.34)["pictures"] == 36
