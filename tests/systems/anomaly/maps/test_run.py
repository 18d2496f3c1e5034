"""A run of maps: what it writes, how it goes on, what it refuses, and volumes that cannot be read."""

import json

import h5py
import numpy as np
import pytest
from relatent.engine.errors import DatasetError, UsageError
from relatent.engine.runtime.atomic import file_sha256
from relatent.factory.state.ledger import Ledger
from relatent.factory.state.lock import RunLock
from relatent.systems.anomaly.data.volume import Volume
from relatent.systems.anomaly.data.volume_folder import read_folder
from relatent.systems.anomaly.maps.error_mapper import ErrorMapper
from relatent.systems.anomaly.maps.mapper import MappedVolume
from relatent.systems.anomaly.maps.reader import MapReader
from relatent.systems.anomaly.maps.run import write_maps


@pytest.fixture
def mapper(checkpoint):
    return ErrorMapper(checkpoint, 16, device="cpu")


def test_what_is_written_is_what_was_mapped(mapper, volumes, tmp_path):
    some, out = volumes(7), tmp_path / "out"
    record = write_maps(out, some[::-1], mapper, formats=("hdf5", "npy"), shard_size=3, synthetic=True)
    assert record["counts"] == {"total": 7, "done": 7, "failed": 0}
    assert json.loads((out / "run.json").read_text())["status"] == "done"
    assert [one["sha256"] for one in record["volumes"]] == [file_sha256(one.source) for one in some]
    # the shards' batches: rounding may depend on how many volumes are computed at once
    values = [volume.read(16) for volume in some]
    mapped = [one for start in range(0, 7, 3) for one in mapper.map(values[start : start + 3])]
    for place in (out, out / "maps.h5"):
        with MapReader(place) as maps:
            assert (len(maps), maps.side, maps.method, maps.synthetic) == (7, 16, "error", True)
            assert maps.names == [one.name for one in some]
            assert maps.patients == ["p000"] * 5 + ["p001"] * 2
            assert maps.sources == [str(one.source) for one in some]
            assert maps.labels.tolist() == [1, 0, 0, 1, 0, 0, 1]
            assert maps.identity == mapper.identity()
            for i, one in enumerate(mapped):
                np.testing.assert_array_equal(maps.error(i), one.error)
                assert {name: scores[i] for name, scores in maps.scores.items()} == one.scores
                np.testing.assert_allclose(maps.volume(i), values[i], atol=5e-4)
                np.testing.assert_allclose(maps.reconstruction(i), one.reconstruction, atol=5e-4)
                mask = some[i].read_mask(16)
                assert (maps.mask(i) is None) == (mask is None)
                assert mask is None or np.array_equal(maps.mask(i), mask)
    for one, name in zip(mapped, (one.name for one in some), strict=True):
        path = out / "maps" / f"error_{name}"
        np.testing.assert_array_equal(np.load(path), one.error)
        about = json.loads(path.with_suffix(".json").read_text())
        assert about["sha256"] == file_sha256(path)
        assert (about["model_sha256"], about["mean_error"]) == (record["model_sha256"], one.scores["mean_error"])


def test_the_schema_of_a_file(mapper, volumes, tmp_path):
    write_maps(tmp_path / "out", volumes(3), mapper)
    with h5py.File(tmp_path / "out" / "shards" / "shard-00000.h5") as file:
        types = {name: (file[name].shape, file[name].dtype.str) for name in file if name not in ("scores", "mask")}
        cube = (3, 16, 16, 16)
        assert types == {
            **dict.fromkeys(("volume_name", "patient", "source", "source_sha256"), ((3,), "|O")),
            "label": ((3,), "|i1"), "has_mask": ((3,), "|b1"), "error": (cube, "<f4"),
            "volume": (cube, "<f2"), "reconstruction": (cube, "<f2"),
        }  # fmt: skip
        assert sorted(file["scores"]) == ["max_error", "mean_error", "p99_error", "peak_error"]
        assert all(file["scores"][name].dtype == np.float64 for name in file["scores"])
        for name in ("error", "volume", "reconstruction", "mask"):
            column = file[name]
            assert (column.chunks, column.compression, column.shuffle) == ((1, 16, 16, 16), "gzip", True)
            assert column.fletcher32
        assert file.attrs["model_sha256"] == mapper.identity()["model_sha256"]
        assert "synthetic" not in file.attrs  # not known


def test_a_run_goes_on_and_is_not_repeated(mapper, volumes, tmp_path):
    some, out, seen = volumes(7), tmp_path / "out", []

    def interrupt(done, total, failed):
        seen.append((done, total, failed))
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_maps(out, some, mapper, shard_size=2, on_progress=interrupt)
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    with pytest.raises(DatasetError, match="2 of 4 shards: the run is not done"):
        MapReader(out)
    before = [path.stat().st_mtime_ns for path in sorted((out / "shards").iterdir())]
    assert write_maps(out, some, mapper, shard_size=2, on_progress=lambda *at: seen.append(at))["status"] == "done"
    assert seen == [(0, 7, 0), (2, 7, 0), (4, 7, 0), (4, 7, 0), (6, 7, 0), (7, 7, 0)]
    assert [path.stat().st_mtime_ns for path in sorted((out / "shards").iterdir())[:2]] == before
    exported = (out / "maps.h5").stat().st_mtime_ns
    write_maps(out, some, mapper, shard_size=2, formats=("npy",))
    assert ((out / "maps.h5").stat().st_mtime_ns, len(list((out / "maps").iterdir()))) == (exported, 14)


def test_another_run_is_refused_and_nothing_is_touched(mapper, checkpoint, volumes, tmp_path):
    some, out = volumes(4), tmp_path / "out"
    write_maps(out, some, mapper, shard_size=2)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "run.lock"}
    relabelled = [Volume(one.name, one.patient, 1 - one.label, one.source, one.mask) for one in some]
    cases = [
        (some, ErrorMapper(checkpoint, 24, device="cpu"), {}, "side was 16, now 24"),
        (some, ErrorMapper(checkpoint, 16, precision="bf16", device="cpu"), {}, "identity.precision was 'fp32'"),
        (some, mapper, {"keep_volumes": False}, "keep_volumes was True"),
        (some[:3], mapper, {}, r"1 volumes are gone \(vol_p000_L4.npy"),
        (relabelled, mapper, {}, "and 1 more"),
    ]
    for given, by, settings, message in cases:
        with pytest.raises(UsageError, match=message) as caught:
            write_maps(out, given, by, **{"shard_size": 2, **settings})
        assert "\n" not in str(caught.value)
        assert "choose another OUT" in str(caught.value)
    np.save(some[1].source, np.zeros((16, 16, 16), np.float32))
    with pytest.raises(UsageError, match=r"vol_p000_L2.npy has changed"):
        write_maps(out, some, mapper, shard_size=2)
    assert {path: path.read_bytes() for path in before} == before


def test_foreign_folders_and_unusable_arguments_are_refused(mapper, volumes, tmp_path):
    some = volumes(2)
    for settings, message in (({"formats": ("png",)}, "unknown format"), ({"shard_size": 0}, "shard_size is 0")):
        with pytest.raises(UsageError, match=message):
            write_maps(tmp_path / "out", some, mapper, **settings)
    with pytest.raises(UsageError, match="there are no volumes"):
        write_maps(tmp_path / "out", [], mapper)
    with pytest.raises(UsageError, match="two volumes are called"):
        write_maps(tmp_path / "out", [some[0], some[0]], mapper)
    with pytest.raises(UsageError, match="no name of a volume"):
        write_maps(tmp_path / "out", [Volume("../x", "p", 0, some[0].source)], mapper)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text('{"schema": "relatent/1"}')
    with pytest.raises(DatasetError, match="no run of maps"):
        write_maps(tmp_path / "other", some, mapper)
    (tmp_path / "out").mkdir(exist_ok=True)
    with RunLock(tmp_path / "out"), pytest.raises(UsageError, match="in use"):
        write_maps(tmp_path / "out", some, mapper)


def bad_files(folder):
    """Damaged and unusable volumes: name -> what is said of it."""
    np.save(folder / "vol_q0_L1.npy", np.array([None] * 8, object).reshape(2, 2, 2), allow_pickle=True)
    np.save(folder / "vol_q0_L2.npy", np.zeros((16, 16), np.float32))
    values = np.zeros((16, 16, 16), np.float32)
    values[3, 4, 5] = np.nan
    np.save(folder / "vol_q0_L3.npy", values)
    np.save(folder / "vol_q0_L4.npy", np.zeros((16, 16, 16), np.float32))
    (folder / "vol_q0_L4.npy").write_bytes((folder / "vol_q0_L4.npy").read_bytes()[:-9])
    np.save(folder / "vol_q0_L5.npy", np.zeros((16, 16, 16), complex))
    (folder / "vol_q1_L1.npy").mkdir()
    (folder / "vol_q1_L2.npy").write_bytes(b"")
    (folder / "vol_q1_L3.npy").symlink_to(folder / "nowhere.npy")
    return {
        "vol_q0_L1.npy": "no complete .npy file of numbers", "vol_q0_L2.npy": "three axes", "vol_q0_L3.npy": "NaN",
        "vol_q0_L4.npy": "no complete .npy file", "vol_q0_L5.npy": "integers or floats", "vol_q1_L1.npy": "expected a file",
        "vol_q1_L2.npy": "no complete .npy file", "vol_q1_L3.npy": "cannot be read",
    }  # fmt: skip


def test_volumes_that_cannot_be_read_are_one_line_each_and_the_rest_is_done(mapper, volumes, tmp_path):
    good, out = [one.name for one in volumes(6)], tmp_path / "out"
    expected = bad_files(tmp_path / "volumes")
    some = read_folder(tmp_path / "volumes")[0]
    record = write_maps(out, some, mapper, shard_size=4)
    assert record["counts"] == {"total": 14, "done": 6, "failed": 8}
    assert {one["name"] for one in record["failures"]} == set(expected)
    for failure in record["failures"]:
        assert failure["stage"] == "load"
        assert expected[failure["name"]] in failure["reason"]
        assert "\n" not in failure["reason"]
    lines = [line["name"] for line in Ledger(out / "ledger.jsonl").lines() if line["kind"] == "failure"]
    assert sorted(lines) == sorted(expected)
    assert Ledger(out / "ledger.jsonl").shards()[2].file is None  # every one of its volumes failed
    with MapReader(out) as maps:
        assert maps.names == good
    np.save(tmp_path / "volumes" / "vol_q0_L2.npy", np.zeros((16, 16, 16), np.float32))  # repaired: it is taken now
    record = write_maps(out, some, mapper, shard_size=4)
    assert record["counts"] == {"total": 14, "done": 7, "failed": 7}
    with MapReader(out / "maps.h5") as maps:
        assert maps.names == [*good, "vol_q0_L2.npy"]


def test_a_volume_that_changes_during_the_run_is_a_failure(mapper, volumes, tmp_path):
    some = volumes(4)

    def change(done, total, failed):
        if done == 2:
            np.save(some[3].source, np.zeros((16, 16, 16), np.float32))

    record = write_maps(tmp_path / "out", some, mapper, shard_size=2, on_progress=change)
    assert [one["reason"] for one in record["failures"]] == [f"{some[3].source} has changed since the run began"]
    assert write_maps(tmp_path / "out", some, mapper, shard_size=2)["counts"]["done"] == 4  # as it is now


def test_where_every_volume_fails_there_are_no_files(mapper, tmp_path):
    (tmp_path / "volumes").mkdir()
    (tmp_path / "volumes" / "vol_a_L1.npy").write_bytes(b"")
    record = write_maps(tmp_path / "out", read_folder(tmp_path / "volumes")[0], mapper, formats=("hdf5", "npy"))
    assert (record["counts"]["failed"], record["outputs"]) == (1, {})
    with pytest.raises(DatasetError, match="every volume failed"):
        MapReader(tmp_path / "out")


def test_maps_that_are_not_finite_are_failures(volumes, tmp_path):
    class Broken:
        method, side = "error", 16

        def identity(self):
            return {}

        def map(self, some):
            found = [MappedVolume(one.copy(), one, {"mean_error": 0.0}) for one in some]
            found[1].error[0, 0, 0] = np.nan
            return found

    record = write_maps(tmp_path / "out", volumes(4), Broken())
    assert [(one["name"], one["stage"]) for one in record["failures"]] == [("vol_p000_L2.npy", "map")]
    with MapReader(tmp_path / "out") as maps:
        assert len(maps) == 3


def test_arrays_of_an_archive_and_runs_without_volumes(mapper, tmp_path):
    images = np.random.default_rng(0).integers(0, 2, (3, 12, 12, 12), np.uint8)
    some = [Volume(f"adrenal-val-{i:05}", f"adrenal-val-{i:05}", None, image) for i, image in enumerate(images)]
    record = write_maps(tmp_path / "out", some, mapper, keep_volumes=False)
    assert len({one["sha256"] for one in record["volumes"]}) == 3
    with MapReader(tmp_path / "out") as maps:
        assert (maps.sources, maps.labels.tolist()) == (maps.names, [-1, -1, -1])
        assert maps.error(2).shape == (16, 16, 16)
        assert maps.mask(0) is None
        with pytest.raises(DatasetError, match="has no volume"):
            maps.volume(0)
    images[1] ^= 1
    with pytest.raises(UsageError, match="adrenal-val-00001 has changed"):
        write_maps(tmp_path / "out", some, mapper, keep_volumes=False)
