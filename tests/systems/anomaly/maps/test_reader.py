"""Reading maps: a file of its own, one that refers to shards, and what is damaged or foreign."""

import pickle
import shutil

import h5py
import numpy as np
import pytest
from relatent.engine.errors import DatasetError
from relatent.systems.anomaly.maps.error_mapper import ErrorMapper
from relatent.systems.anomaly.maps.reader import MapReader
from relatent.systems.anomaly.maps.run import write_maps


@pytest.fixture
def out(checkpoint, volumes, tmp_path):
    write_maps(tmp_path / "out", volumes(5), ErrorMapper(checkpoint, 16, device="cpu"), shard_size=2)
    return tmp_path / "out"


def shard(out, number):
    return out / "shards" / f"shard-{number:05}.h5"


def test_a_moved_folder_a_single_file_and_a_shard_read_alike(out, checkpoint, volumes, tmp_path):
    with h5py.File(out / "maps.h5") as file:
        assert file["error"].is_virtual
    with MapReader(out) as maps:
        errors = [maps.error(i) for i in range(5)]
    shutil.move(out, tmp_path / "moved")
    single = shutil.copytree(tmp_path / "moved", tmp_path / "single")
    write_maps(single, volumes(5), ErrorMapper(checkpoint, 16, device="cpu"), shard_size=2, single_file=True)
    shutil.move(single / "maps.h5", tmp_path / "alone.h5")
    for place in (tmp_path / "moved" / "maps.h5", tmp_path / "alone.h5"):
        with MapReader(place) as maps:
            for i, error in enumerate(errors):
                np.testing.assert_array_equal(maps.error(i), error)
            np.testing.assert_array_equal(maps.error(-1), errors[4])
            with pytest.raises(IndexError):
                maps.error(5)
            other = pickle.loads(pickle.dumps(maps))  # as worker processes get it, without open files
        np.testing.assert_array_equal(other.error(2), errors[2])
        other.close()
    with MapReader(shard(tmp_path / "moved", 1)) as maps:
        assert len(maps) == 2
        np.testing.assert_array_equal(maps.error(0), errors[2])


def test_damage_is_one_line(out):
    with MapReader(out) as maps, h5py.File(shard(out, 1)) as file:
        place = file["error"].id.get_chunk_info(0).byte_offset + 100
        names = maps.names
    data = bytearray(shard(out, 1).read_bytes())
    data[place] ^= 1
    shard(out, 1).write_bytes(data)
    for path in (out, out / "maps.h5"):
        with MapReader(path) as maps:  # columns are read when they are asked for
            assert maps.names == names
            maps.error(0)
            with pytest.raises(DatasetError, match=r"shard-00001.h5 is damaged.*makes it anew") as caught:
                maps.error(2)
            assert "\n" not in str(caught.value)
    shard(out, 1).write_bytes(data[:-1000])
    with pytest.raises(DatasetError, match=r"shard-00001.h5 is missing or not as it was written"):
        MapReader(out)
    with pytest.raises(DatasetError, match=r"shard-00001.h5 cannot be opened as HDF5"):
        MapReader(out / "maps.h5")


def test_missing_and_exchanged_shards_are_found(out):
    shutil.copy(shard(out, 0), shard(out, 1))
    with pytest.raises(DatasetError, match="out of date"):
        MapReader(out / "maps.h5")
    shard(out, 1).unlink()
    with pytest.raises(DatasetError, match=r"shard-00001.h5"):
        MapReader(out / "maps.h5")
    with pytest.raises(DatasetError, match=r"shard-00001.h5 is missing"):
        MapReader(out)


def test_foreign_and_hostile_files_are_refused(out, tmp_path):
    def change(number, act):
        path = shutil.copy(shard(out, 0), tmp_path / f"{number}.h5")
        with h5py.File(path, "r+") as file:
            act(file)
        return path

    def short(file):
        del file["error"]
        file["error"] = np.zeros((1, 16, 16, 16), np.float32)

    def outside(file):
        del file["error"]
        layout = h5py.VirtualLayout((2, 16, 16, 16), np.float32)
        layout[:] = h5py.VirtualSource("/etc/hosts", "error", (2, 16, 16, 16))
        file.create_virtual_dataset("error", layout)

    cases = {
        "no dataset of schema": lambda file: file.attrs.update({"schema": "relatent/1"}),
        "root attributes": lambda file: file.attrs.update({"identity": "{"}),
        "is damaged": lambda file: file.__delitem__("label"),
        "other shapes": short,
        "outside its folder": outside,
    }
    for number, (message, act) in enumerate(cases.items()):
        with pytest.raises(DatasetError, match=message) as caught:
            MapReader(change(number, act))
        assert "\n" not in str(caught.value)
    (tmp_path / "text.h5").write_text("no HDF5")
    for path, message in (
        (tmp_path / "text.h5", "cannot be opened"),
        (tmp_path / "none.h5", "cannot be opened"),
        (tmp_path, "no run.json"),
    ):
        with pytest.raises(DatasetError, match=message):
            MapReader(path)
