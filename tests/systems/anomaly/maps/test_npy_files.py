"""Maps as `.npy` files: left alone where they are the same, replaced where they are not."""

import json

import numpy as np
import pytest
from relatent.engine.errors import UsageError
from relatent.engine.runtime.atomic import file_sha256
from relatent.systems.anomaly.maps.npy_files import write_npy

ERROR = np.arange(8, dtype=np.float32).reshape(2, 2, 2)


def test_a_map_is_written_once_and_again_where_it_differs(tmp_path):
    path = write_npy(tmp_path, "vol_a_L1.npy", ERROR, {"model_sha256": "0"})
    about = path.with_suffix(".json")
    assert (path.name, about.name) == ("error_vol_a_L1.npy", "error_vol_a_L1.json")
    np.testing.assert_array_equal(np.load(path), ERROR)
    assert json.loads(about.read_text())["sha256"] == file_sha256(path)

    def written_again(error, provenance):
        before = path.stat().st_ino, path.stat().st_mtime_ns
        write_npy(tmp_path, "vol_a_L1", error, provenance)
        return (path.stat().st_ino, path.stat().st_mtime_ns) != before

    assert written_again(ERROR, {"model_sha256": "0"})  # the volume has another name
    assert not written_again(ERROR, {"model_sha256": "0"})
    assert written_again(ERROR, {"model_sha256": "1"})
    assert written_again(ERROR + 1, {"model_sha256": "1"})
    path.write_bytes(b"damaged")
    assert written_again(ERROR + 1, {"model_sha256": "1"})
    about.unlink()  # it was killed between the two files
    assert written_again(ERROR + 1, {"model_sha256": "1"})
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["../x.npy", "/x.npy", ""])
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(UsageError, match="no name of a volume"):
        write_npy(tmp_path / "m", name, ERROR, {})
    assert not (tmp_path / "m").exists()
