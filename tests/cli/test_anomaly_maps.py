"""`relatent anomaly map`: results, statuses and refusals."""

import json

import numpy as np
import pytest
from relatent.cli.main import main
from relatent.systems.anomaly.maps.reader import MapReader
from tiny_vqvae import save_checkpoint, write_volumes


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with volumes and a checkpoint."""
    monkeypatch.chdir(tmp_path)
    write_volumes(tmp_path / "volumes", 5)
    save_checkpoint(tmp_path / "last.ckpt", dataset={"volume_size": 16})
    return tmp_path


MAP = ["anomaly", "map", "volumes", "out", "--model", "last.ckpt", "--device", "cpu"]


def test_a_folder_of_volumes(place, capsys):
    assert main([*MAP, "--to", "hdf5,npy", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["counts"]["done"], found["side"], found["synthetic"]) == (5, 16, True)
    assert found["outputs"] == {"hdf5": "maps.h5", "npy": "maps"}
    assert "volumes" not in found
    assert main(MAP) == 0  # done already
    assert "5 of 5 volumes, done, error by last.ckpt" in capsys.readouterr().out
    assert main([*MAP, "--side", "24"]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert "side was 16, now 24" in told.err


def test_what_cannot_be_read_is_told_and_the_rest_done(place, capsys):
    (place / "volumes" / "vol_p009_L1.npy").write_bytes(b"no volume")
    np.save(place / "volumes" / "x.npy", np.zeros((16, 16, 16)))
    assert main([*MAP, "--limit", "6", "--only-maps", "--single-file"]) == 1
    told = capsys.readouterr()
    assert "failed in load: volumes/vol_p009_L1.npy is no complete" in told.out
    assert "x.npy: expected a name like" in told.err
    with MapReader(place / "out" / "maps.h5") as maps:
        assert (len(maps), maps.header.keep_volumes) == (5, False)


def test_an_archive(place, capsys):
    images = np.random.default_rng(0).integers(0, 2, (4, 16, 16, 16), np.uint8)
    np.savez("adrenal.npz", val_images=images, val_labels=np.array([[0], [1], [0], [1]]))
    arguments = ["anomaly", "map", "adrenal.npz", "out", "--model", "last.ckpt", "--device", "cpu"]
    assert main(arguments) == 2
    assert "give --split train, val or test" in capsys.readouterr().err
    assert main([*arguments, "--split", "val", "--limit", "3"]) == 0
    with MapReader("out") as maps:
        assert maps.labels.tolist() == [0, 1, 0]
        assert maps.synthetic is None
    assert main([*arguments, "--split", "test"]) == 2
    assert "no split 'test'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--model", "none.ckpt"], "neither a checkpoint nor a bundled model"), (["--to", "png"], "unknown format 'png'"),
     (["--side", "20"], "multiple of 8"), (["--limit", "0"], "--limit is 0"), (["--split", "val"], "is for archives"),
     (["--batch-size", "0"], "batch size"), (["--shard-size", "0"], "shard_size is 0")],
)  # fmt: skip
def test_unusable_arguments_are_one_line(place, capsys, more, message):
    assert main([*MAP, *more]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (place / "out" / "run.json").exists()
