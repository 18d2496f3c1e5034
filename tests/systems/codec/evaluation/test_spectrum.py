"""Spectra of the latent's scales."""

import pytest
import torch
from PIL import Image
from relatent.systems.codec.bitstream.image_codec import padded
from relatent.systems.codec.evaluation.spectrum import radial_profile, scale_spectra, spectrum_plot
from relatent.systems.codec.transforms.dct import dct_2d
from synthetic_pictures import picture_of


@pytest.fixture(scope="module")
def images():
    return [picture_of(128, 192, 1), picture_of(192, 128, 2)]


def test_of_one_picture_it_is_the_mean_over_channels(codec, images):
    spectra = scale_spectra(codec, images[:1])
    with torch.inference_mode():
        y, _ = codec.model.analyse(padded(images[0]))
    for spectrum, stride in zip(spectra, (4, 2, 1), strict=True):
        expected = dct_2d(y[:, :, ::stride, ::stride]).abs().log10().mean(1)[0]
        assert spectrum.shape == (8 // stride, 12 // stride)
        assert torch.allclose(spectrum, expected, atol=1e-5)


def test_pictures_of_different_shape_meet_in_the_least(codec, images):
    both, first, second = (scale_spectra(codec, chosen) for chosen in (images, images[:1], images[1:]))
    assert [spectrum.shape for spectrum in both] == [(2, 2), (4, 4), (8, 8)]
    for mean, one, other in zip(both, first, second, strict=True):
        assert float(mean.mean()) == pytest.approx(float((one.mean() + other.mean()) / 2), abs=0.05)


def test_the_profile_is_over_the_radius():
    rows, columns = torch.meshgrid(torch.arange(32) / 32, torch.arange(48) / 48, indexing="ij")
    radii, means = radial_profile((rows.square() + columns.square()).sqrt())
    assert means == pytest.approx(radii)
    assert radii == sorted(radii)
    assert radial_profile(torch.ones(1, 1)) == ([0.0], [1.0])


@pytest.mark.parametrize("chosen", [slice(2), slice(0, 1)])
def test_the_picture(codec, images, chosen, tmp_path):
    spectrum_plot(scale_spectra(codec, images[chosen]), "Spectra", tmp_path / "spectrum.png")
    with Image.open(tmp_path / "spectrum.png") as image:
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(2**20)) > 100


def test_a_picture_of_one_latent_is_drawn_too(codec, tmp_path):
    spectrum_plot(scale_spectra(codec, [picture_of(1, 1, 0)]), "Spectra", tmp_path / "spectrum.png")
    assert (tmp_path / "spectrum.png").stat().st_size > 1000
