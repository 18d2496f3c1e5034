"""Whole pictures, upright, by name."""

import numpy as np
import pytest
from PIL import Image
from relatent.engine.errors import ImageError, UsageError
from relatent.systems.codec.evaluation.pictures import find_pictures, read_picture
from synthetic_pictures import picture_of


@pytest.fixture
def folder(tmp_path):
    pixels = picture_of(37, 50, 1).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    (tmp_path / "below").mkdir()
    Image.fromarray(pixels).save(tmp_path / "below" / "turned.png", exif=exif)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return tmp_path


def test_a_picture_is_whole_and_upright(folder):
    assert np.array_equal(read_picture(folder / "a.png").numpy(), picture_of(37, 50, 1).numpy())
    turned = read_picture(folder / "below" / "turned.png")
    assert turned.shape == (3, 50, 37)
    assert np.array_equal(turned.numpy(), np.rot90(picture_of(37, 50, 1).numpy(), -1, (1, 2)))


def test_a_broken_picture(folder):
    with pytest.raises(ImageError) as caught:
        read_picture(folder / "broken.png")
    assert "\n" not in str(caught.value)


def test_pictures_of_a_folder_and_of_a_list(folder):
    assert list(find_pictures(folder)) == ["a.png", "below/turned.png", "broken.png"]
    assert list(find_pictures(folder, limit=2)) == ["a.png", "below/turned.png"]
    assert list(find_pictures(folder, exclude=[folder / "below"])) == ["a.png", "broken.png"]
    files = [folder / "a.png", folder / "below" / "turned.png"]
    assert list(find_pictures(files).values()) == files
    with pytest.raises(UsageError, match="expected at least 1 picture, found 0"):
        find_pictures(folder, limit=0)
    with pytest.raises(UsageError, match="no such image"):
        find_pictures(folder / "none")
