"""The catalogue's figures are those that are counted of the published configurations."""

import pytest
from relatent.benchmarks.research.decoder_cost import NAMES, count_named
from relatent.engine.autoencoders.catalogue import CATALOGUE


@pytest.mark.parametrize("name", NAMES)
def test_the_catalogue_has_what_is_counted(name):
    found, entry = count_named(name), CATALOGUE[name]
    assert found["tflop"] == entry.tflop
    assert (found["channels"], found["factor"]) == (entry.latent_channels, entry.downscale_factor)
    if name in (
        "sd15",
        "flux2",
        "flux2-small",
        "qwen-image",
        "qwen-image-2.1",
        "wan22",
        "hunyuan-image",
    ):
        assert found["frozen"] == found["convolutions"]


def test_only_what_needs_weights_has_no_figure():
    assert {name for name, entry in CATALOGUE.items() if entry.tflop is None} == {"rae-dinov2"}
