"""The small codec in a folder."""

from pathlib import Path

import pytest
from relatent.systems.codec.bitstream.image_codec import ImageCodec
from relatent.systems.codec.bitstream.model_folder import load_model, save_model
from tiny_codec import trained


@pytest.fixture(scope="session")
def codec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("codec") / "model"
    save_model(trained(), folder, 0.013, half=True)
    return folder


@pytest.fixture(scope="session")
def codec(codec_folder: Path) -> ImageCodec:
    return load_model(codec_folder)
