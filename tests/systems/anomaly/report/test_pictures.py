"""Slices, projections, colours and histograms."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from relatent.exporters.summaries.pages import animated_webp_uri, webp_uri
from relatent.systems.anomaly.report.colours import Scales, grey, legend, overlay
from relatent.systems.anomaly.report.histogram import histogram
from relatent.systems.anomaly.report.projection import FRAMES, PIXELS, projections
from relatent.systems.anomaly.report.slices import OUTLINE, maximum_place, sheet, slice_of

SIDE = 16
SCALES = Scales(1, 1)
HEAD_FRONT_RIGHT = (13, 12, 14)  # D, H, W


def volume_with(*places: tuple[int, int, int]) -> np.ndarray:
    volume = np.zeros((SIDE,) * 3, np.float32)
    for place in places:
        volume[place] = 1
    return volume


@pytest.mark.parametrize(
    ("plane", "axis", "row_column"),
    [("axial", 0, (3, 1)), ("coronal", 1, (2, 1)), ("sagittal", 2, (2, 3))],  # 15 − H, 15 − W and so on
)
def test_slices_are_the_right_way_up(plane, axis, row_column):
    image = slice_of(volume_with(HEAD_FRONT_RIGHT), plane, HEAD_FRONT_RIGHT[axis])
    assert list(zip(*np.nonzero(image), strict=True)) == [row_column]


def test_the_place_of_the_maximum_ignores_edges_and_single_voxels():
    error = volume_with((0, 0, 0), (4, 4, 4))
    error[9:12, 9:12, 9:12] = 0.8
    assert maximum_place(error) == (10, 10, 10)


def test_the_sheet_has_nine_pictures_with_cross_and_outline():
    error, mask = volume_with((10, 5, 6)), np.zeros((SIDE,) * 3, bool)
    mask[9:12, 4:7, 5:8] = True
    pixels = sheet(np.zeros_like(error), error, np.full_like(error, 0.5), mask, SCALES)
    assert (pixels.shape, pixels.dtype) == ((384, 384, 3), np.uint8)
    cells = pixels.reshape(3, 128, 3, 128, 3).transpose(0, 2, 1, 3, 4)  # row, plane, then pixels
    assert (cells[2] == 128).all()
    for plane, (row, column) in enumerate([(10, 9), (5, 9), (5, 10)]):  # of 16: 15 − 5, 15 − 6 and so on
        y, x = row * 8 + 4, column * 8 + 4
        assert (cells[0, plane, y, 0] > 0).any()
        assert (cells[0, plane, 0, x] > 0).any()
        assert (cells[0, plane, y - 8 : y + 8, x - 8 : x + 8] == 0).all()  # the place itself is free
        edge = np.argwhere((cells[1, plane] == OUTLINE).all(-1))
        assert (edge.min(0).tolist(), edge.max(0).tolist()) == ([y - 12, x - 12], [y + 11, x + 11])
    assert not (sheet(error, error, error, None, SCALES) == OUTLINE).all(-1).any()


def test_the_projection_turns_round_the_axis_to_the_head():
    place = (13, 8, 13)  # to the head, on the right
    frames = projections(volume_with(place), np.zeros((SIDE,) * 3, np.float32), SCALES)
    assert (len(frames), frames[0].shape, frames[0].dtype) == (FRAMES, (PIXELS, PIXELS, 3), np.uint8)
    where = [np.unravel_index(frame[..., 0].argmax(), (PIXELS, PIXELS)) for frame in frames]
    assert all(row == pytest.approx(25, abs=6) for row, _ in where)
    columns = np.array([column for _, column in where])
    assert columns[0] == pytest.approx(25, abs=6)  # the patient's right on the left
    assert columns[FRAMES // 2] == pytest.approx(135, abs=6)
    assert columns[FRAMES // 4] == pytest.approx(80, abs=8)
    assert (np.diff(columns[1 : FRAMES // 2]) >= 0).all()


def test_the_half_that_is_mirrored_is_what_turning_gives():
    from relatent.systems.anomaly.report import projection

    cube = np.random.default_rng(0).random((12, 12, 12), np.float32)
    for angle in (0.3, 1.2):
        np.testing.assert_allclose(
            projection._project(cube, angle)[:, ::-1], projection._project(cube, angle + np.pi), atol=1e-5
        )


def test_colours():
    volume, error = np.array([0.2, 0.2, 0.2]), np.array([0.0, 0.5, 2.0])
    assert (overlay(volume, error, SCALES)[0] == 51).all()  # nothing covers the volume where the map is 0
    np.testing.assert_array_equal(overlay(volume, error, SCALES)[2], overlay(volume, np.ones(3), SCALES)[2])
    assert grey(np.array([0, 0.25, 1]), Scales(0.5, 1))[:, 0].tolist() == [0, 128, 255]
    lightness = legend()[0].astype(int).sum(-1)
    assert legend().shape == (24, 256, 3)
    assert (np.diff(lightness) >= 0).all()


def test_histograms_by_label():
    found = histogram("s", np.array([0, 0, 1, np.nan, 0.5]), np.array([0, 1, 0, 0, -1]))
    assert (found.edges, found.most) == ((0, 1), 1)
    assert {name: sum(counts) for name, counts in found.counts.items()} == {"normal": 2, "abnormal": 1, "no label": 1}
    assert sum(histogram("s", np.ones(3), np.zeros(3)).counts["normal"]) == 3


def test_pictures_as_data_uris():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)

    def decode(uri: str) -> Image.Image:
        kind, content = uri.split(",")
        assert kind == "data:image/webp;base64"
        return Image.open(io.BytesIO(base64.b64decode(content)))

    np.testing.assert_array_equal(np.asarray(decode(webp_uri(pixels))), pixels)
    assert len(webp_uri(pixels, 10)) < len(webp_uri(pixels))
    animated = decode(animated_webp_uri([pixels, 255 - pixels, pixels], 50, 80))
    assert (animated.n_frames, animated.info["loop"]) == (3, 0)
