"""A detector's training: it learns, it goes on, it refuses what leaks."""

import multiprocessing
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from cubes import write_cubes
from killed_detector import work
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.data.errors import FoldsError, VolumeError
from relatent.systems.anomaly.data.volume import Volume
from relatent.systems.anomaly.detector import checkpoint as files
from relatent.systems.anomaly.detector.mapper import DetectorMapper
from relatent.systems.anomaly.detector.patients import split_patients
from relatent.systems.anomaly.detector.settings import DetectorSettings
from relatent.systems.anomaly.detector.training import MAPS, train_detector

TINY = DetectorSettings(channels=(4, 8), epochs=3, seed=1)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("labels", ["boxes", "slices"])
def test_it_finds_the_anomalies_of_other_patients(tmp_path, base, labels):
    training, judged = write_cubes(tmp_path / "a", 15), write_cubes(tmp_path / "b", 8, seed=1)
    settings = DetectorSettings(labels=labels, channels=(4, 8), epochs=15, learning_rate=0.01)
    seen = []
    path = train_detector(base, training, tmp_path / "out", settings, judged, lambda *progress: seen.append(progress))
    assert [progress[:2] for progress in seen] == [(n, 15) for n in range(1, 16)]
    mapper = DetectorMapper(base, path, "cpu")
    mapped = mapper.map([volume.read() for volume in judged])
    scores = np.array([one.scores["top_probability"] for one in mapped])
    labels = np.array([volume.label for volume in judged])
    assert scores[labels == 1].min() > scores[labels == 0].max()
    inside, outside = [], []
    for one, volume in zip(mapped, judged, strict=True):
        if volume.label:
            mask = volume.read_mask()
            inside.append(one.error[mask].mean())
            outside.append(one.error[~mask].mean())
    assert np.mean(inside) > 3 * np.mean(outside)
    best = min(mapper.history, key=lambda line: line["validation_loss"])
    assert best["validation_loss"] < 0.7 * mapper.history[0]["validation_loss"]


def test_a_killed_training_ends_with_the_same_weights(tmp_path, cubes):
    context = multiprocessing.get_context("forkserver")  # torch is imported once, and forked before it has threads
    context.set_forkserver_preload([train_detector.__module__, "torch._dynamo"])

    def run(folder, killed_in=None):
        process = context.Process(target=work, args=(folder, TINY, killed_in))
        process.start()
        process.join()
        return process.exitcode

    assert run(tmp_path / "whole") == 0
    assert run(tmp_path / "killed", 2) == -signal.SIGKILL
    assert len(files.read(tmp_path / "killed" / files.STATE)["history"]) == 1
    assert run(tmp_path / "killed", 2) == -signal.SIGKILL
    assert len(files.read(tmp_path / "killed" / files.STATE)["history"]) == 2
    assert run(tmp_path / "killed") == 0
    whole, killed = (files.read(tmp_path / name / files.RESULT) for name in ("whole", "killed"))
    assert whole["history"] == killed["history"]
    assert whole["network"].keys() == killed["network"].keys()
    assert all(torch.equal(one, killed["network"][name]) for name, one in whole["network"].items())
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == sorted([files.RESULT, "run.lock", MAPS])


def test_the_weights_of_the_best_epoch_are_kept(tmp_path, base, cubes, monkeypatch):
    from relatent.systems.anomaly.detector import training

    losses, kept = iter([3.0, 1.0, 2.0]), []

    class Staged(training._Training):
        def _validate(self):
            kept.append({name: value.clone() for name, value in self.network.state_dict().items()})
            return torch.full((4, 1), next(losses))

    monkeypatch.setattr(training, "_Training", Staged)
    network = files.read(train_detector(base, cubes, tmp_path / "out", TINY))["network"]
    assert all(torch.equal(value, kept[1][name]) for name, value in network.items())
    assert not all(torch.equal(value, kept[2][name]) for name, value in network.items())


def test_what_is_done_is_not_repeated_and_another_training_refused(tmp_path, base, cubes):
    path = train_detector(base, cubes, tmp_path / "out", TINY)
    before = path.read_bytes()
    seen = []
    assert train_detector(base, cubes, tmp_path / "out", TINY, on_progress=lambda *one: seen.append(one)) == path
    assert path.read_bytes() == before
    assert not seen
    with pytest.raises(UsageError, match="another training: settings, training_sha256"):
        train_detector(base, cubes, tmp_path / "out", replace(TINY, seed=2))
    with pytest.raises(UsageError, match="holds maps of another run: 2 volumes are gone"):
        train_detector(base, cubes[:-2], tmp_path / "out", TINY)


def test_patients_are_in_one_part_only(cubes):
    for seed in range(20):
        training, validation = split_patients(cubes, seed)
        assert not training & validation
        assert training | validation == {volume.patient for volume in cubes}
        for part in (training, validation):
            assert {volume.label for volume in cubes if volume.patient in part} == {0, 1}
    assert len({tuple(sorted(split_patients(cubes, seed)[1])) for seed in range(20)}) > 1
    many = [Volume(f"x{i}", f"p{i}", int(i < 10), np.zeros((4, 4, 4))) for i in range(20)]
    training, validation = split_patients(many, 0)
    assert (len(training), len(validation)) == (16, 4)


def test_leaks_are_refused_before_maps_are_made(tmp_path, base, cubes):
    with pytest.raises(
        FoldsError, match=rf"{cubes[3].name}: the detector's training has the patient {cubes[3].patient}"
    ):
        train_detector(base, cubes, tmp_path / "out", TINY, judged=cubes[3:4])
    with pytest.raises(FoldsError, match="1 patients have volumes with label 1"):
        train_detector(base, cubes[:2], tmp_path / "out", TINY)
    abnormal = [volume for volume in cubes if volume.label]
    with pytest.raises(FoldsError, match="and normal ones"):
        train_detector(base, abnormal, tmp_path / "out", TINY)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_used(tmp_path, base, cubes, caplog):
    cubes[0].source.write_bytes(b"no volume")
    cubes.append(Volume("vol_x_L1.npy", "x", None, np.full((8, 8, 8), np.nan)))  # without a label, so not even read
    train_detector(base, cubes, tmp_path / "out", TINY)
    assert f"left out of the detector's training: {cubes[0].source} is no complete" in caplog.text
    bare = [Volume(one.name, one.patient, one.label, one.source) for one in cubes[1:]]
    with pytest.raises(VolumeError, match=r"neither box in volumes\.json nor a mask"):
        train_detector(base, bare, tmp_path / "bare", TINY)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"labels": "points"}, "boxes or slices"),
        ({"weights": (1.0, 1.0, 1.0)}, "four finite numbers"),
        ({"weights": (0.0,) * 4}, "not all 0"),
        ({"weights": (float("nan"), 1, 1, 1)}, "four finite numbers"),
        ({"margin": 1.5}, "from 0 to 1"),
        ({"channels": (6,)}, "multiples of 4"),
        ({"epochs": 0}, "epochs: expected a whole number from 1 on, found 0"),
        ({"learning_rate": -1.0}, "learning_rate"),
    ],
)
def test_settings_that_make_no_training(values, told):
    with pytest.raises(UsageError, match=told):
        DetectorSettings(**values)


def test_weights_are_those_of_the_labels_and_the_side_unless_given():
    assert DetectorSettings().with_weights(64).weights == (1, 0.1, 0.1, 0.1)
    one, other = (DetectorSettings(labels="slices").with_weights(side).weights for side in (32, 64))
    assert one[1:] == other[1:]
    assert other[0] == 8 * one[0] == pytest.approx(0.01 * 64**3)
    assert DetectorSettings(weights=(1, 2, 3, 4)).with_weights(64).weights == (1, 2, 3, 4)


def test_settings_in_files():
    settings = DetectorSettings(labels="slices", weights=(1, 2, 3, 4))
    assert DetectorSettings.of(settings.to_dict()) == settings
    with pytest.raises(UsageError, match=r"unknown key detector\.x"):
        DetectorSettings.of({"x": 1})
