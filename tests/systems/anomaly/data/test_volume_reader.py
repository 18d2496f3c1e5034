"""Volumes' files: what is read, what is clipped, what is refused in one line."""

import logging
import os
import struct

import numpy as np
import pytest
from relatent.systems.anomaly.data.errors import VolumeError
from relatent.systems.anomaly.data.volume_reader import fit, read_volume


def saved(folder, values, name="vol_p01_L3.npy"):
    path = folder / name
    np.save(path, values, allow_pickle=True)
    return path


def refused(path, *words):
    with pytest.raises(VolumeError) as found:
        read_volume(path, 8)
    text = str(found.value)
    assert "\n" not in text
    for word in (str(path), *words):
        assert word in text, text


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4", "float16", "uint8", "bool", "int64"])
def test_any_number_becomes_float32(tmp_path, dtype):
    values = (np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)
    volume = read_volume(saved(tmp_path, values))
    assert (volume.dtype, volume.dtype.isnative, volume.flags.writeable) == (np.float32, True, True)
    np.testing.assert_array_equal(volume, values.astype(np.float32))


def test_fortran_order_is_read_as_it_was_written(tmp_path):
    values = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(read_volume(saved(tmp_path, np.asfortranarray(values))), values)


def test_out_of_range_is_clipped_with_a_warning_that_names_the_file(tmp_path, caplog):
    path = saved(tmp_path, np.array([[[-0.5, 0.25, 1.5]]], np.float32))
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(read_volume(path), [[[0, 0.25, 1]]])
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: values from -0.5 to 1.5 are clipped to [0, 1]"
    ]


def test_within_range_warns_of_nothing(tmp_path, caplog):
    read_volume(saved(tmp_path, np.array([[[0.0, 1.0]]])))
    assert caplog.records == []


@pytest.mark.parametrize(("size", "side"), [(6, 4), (7, 4), (4, 6), (4, 7), (5, 5)])
def test_fit_crops_and_pads_round_the_centre(size, side):
    values = np.arange(1, size + 1)[:, None, None] * np.ones((1, side, side), int)
    line = fit(values, side)[:, 0, 0]
    expected = {
        (6, 4): [2, 3, 4, 5],
        (7, 4): [2, 3, 4, 5],
        (4, 6): [0, 1, 2, 3, 4, 0],
        (4, 7): [0, 1, 2, 3, 4, 0, 0],
        (5, 5): [1, 2, 3, 4, 5],
    }
    assert line.tolist() == expected[size, side]


def test_axes_of_different_sizes_are_fitted_each_by_itself(tmp_path):
    assert read_volume(saved(tmp_path, np.ones((3, 20, 8), np.uint8)), 8).sum() == 3 * 8 * 8


def test_values_that_are_not_finite_are_refused(tmp_path):
    for bad in (np.nan, np.inf, 1e300):
        values = np.zeros((8, 8, 8))
        values[4, 4, 4] = bad
        refused(saved(tmp_path, values), "1 values", "NaN or infinite")


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8, 8), (0, 8, 8), (1025, 1, 1), ()])
def test_other_shapes_are_refused(tmp_path, shape):
    refused(saved(tmp_path, np.zeros(shape, np.float32)))


def test_foreign_pickled_and_truncated_files_are_refused(tmp_path):
    whole = saved(tmp_path, np.zeros((8, 8, 8))).read_bytes()
    objects = saved(tmp_path, np.array([[[{}]]], object), "objects.npy")
    refused(objects, "no complete .npy file")
    for name, data in {
        "cut": whole[:-1],
        "header": whole[:40],
        "empty": b"",
        "text": b"volume",
        "zip": b"PK\x03\x04" * 9,
    }.items():
        path = tmp_path / f"{name}.npy"
        path.write_bytes(data)
        refused(path, "no complete .npy file")
    refused(saved(tmp_path, np.zeros((8, 8, 8), complex)), "complex")
    refused(tmp_path / "absent.npy", "No such file")
    refused(tmp_path, "a folder")
    os.mkfifo(tmp_path / "pipe.npy")
    refused(tmp_path / "pipe.npy", "a named pipe")


@pytest.mark.parametrize(
    "shape", ["(100000, 100000, 100000)", "(-1, 2, 2)", "(99999999999999999999, 2, 2)", "('a', 2)", "[" * 3000, "8"]
)
def test_nothing_is_allocated_by_a_header_that_lies(tmp_path, shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    path = tmp_path / "vol_p01_L3.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64))
    refused(path)


def test_a_sparse_giant_is_refused_by_its_sides(tmp_path):
    path = tmp_path / "vol_p01_L3.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(2000, 1000, 1000))
    refused(path, "2000")
