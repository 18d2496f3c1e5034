"""The classifier of users, and what it refuses to judge."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.data.spectrogram import Spectrogram
from relatent.systems.spectrogram.validation.classifier import load_classifier, recognition, train_classifier
from relatent.systems.spectrogram.validation.network import make_network
from relatent.systems.spectrogram.validation.pictures import load_pictures
from small_walkers import FIT

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def classifier(halves, tmp_path_factory):
    return train_classifier(halves[0], FIT, tmp_path_factory.mktemp("classifier") / "classifier.safetensors")


def test_it_recognises_users_in_recordings_that_it_has_not_seen(classifier, halves, tmp_path):
    held_out = halves[1]
    users = held_out.users.numpy()
    assert recognition(classifier.judge(held_out), users)["accuracy"] > 0.8
    control = train_classifier(halves[0], FIT, tmp_path / "control.safetensors", shuffle_labels=True)
    assert recognition(control.judge(held_out), users)["accuracy"] < 0.75


def test_a_few_hundred_thousand_parameters():
    assert 2e5 < sum(p.numel() for p in make_network(31, 0).parameters()) < 8e5


def test_recognition_counts():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.15, 0.85], [0.95, 0.05]])
    found = recognition(probabilities, np.array([0, 0, 1, 1]))
    assert found["accuracy"] == 0.75
    assert found["accepted"] == 0.5
    assert found["accepted_wrong"] == 0.25
    assert found["confusion"] == [[2, 0], [1, 1]]
    assert found["accuracy_by_user"] == {0: 1.0, 1: 0.5}


def test_it_never_judges_what_it_was_trained_on(classifier, halves, tmp_path):
    training, held_out = halves
    with pytest.raises(UsageError, match="must not judge"):
        classifier.judge(training)
    again = tmp_path / "ID_1" / "new.png"  # the same pixels, saved anew under another name
    again.parent.mkdir()
    with Image.open(training.paths[0]) as picture:
        picture.save(again, compress_level=1)
    with pytest.raises(UsageError, match=r"ID_1/new\.png has the very pixels of a training picture"):
        classifier.judge(load_pictures([Spectrogram(again, 0, "", 0.0)], 64))
    with pytest.raises(UsageError, match=f"is of the training recording ID_1/{training.recordings[0]}"):
        classifier.judge(replace(held_out.pick([0]), recordings=(training.recordings[0],)))
    with pytest.raises(UsageError, match="has the name of a training picture"):
        classifier.judge(replace(held_out.pick([0]), names=(training.names[0],)))
    assert len(classifier.judge(held_out)) == len(held_out)


def test_a_split_by_users_is_refused(halves, tmp_path):
    training = halves[0]
    with pytest.raises(UsageError, match="no training picture of ID_2"):
        train_classifier(training.pick(training.users != 1), FIT, tmp_path / "c.safetensors")
    with pytest.raises(UsageError, match="raise --num_users"):
        train_classifier(training, replace(FIT, num_users=2), tmp_path / "c.safetensors")


def test_stopped_and_gone_on_equals_undisturbed(classifier, halves, tmp_path):
    file = tmp_path / "classifier.safetensors"

    def stop(epoch, loss):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_classifier(halves[0], FIT, file, on_epoch=stop)
    with pytest.raises(UsageError, match="was stopped; let it go on"):
        load_classifier(file)
    seen = []
    again = train_classifier(halves[0], FIT, file, on_epoch=lambda epoch, loss: seen.append(epoch))
    assert seen == [4, 5, 6]
    for name, value in classifier.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
    trained = train_classifier(halves[0], FIT, file, on_epoch=lambda epoch, loss: pytest.fail("trained anew"))
    assert np.array_equal(trained.judge(halves[1]), classifier.judge(halves[1]))
    loaded = load_classifier(file)
    assert np.array_equal(loaded.judge(halves[1]), classifier.judge(halves[1]))
    with pytest.raises(UsageError, match="must not judge"):
        loaded.judge(halves[0])


def test_the_files_say_what_it_was_trained_on(classifier, halves, tmp_path):
    file = tmp_path / "classifier.safetensors"
    train_classifier(halves[0], replace(FIT, epochs=1), file)
    record = json.loads(file.with_suffix(".json").read_text())
    assert record["trained_on"]["recordings"] == sorted({name.rpartition("_")[0] for name in halves[0].names})
    assert len(record["trained_on"]["digests"]) == len(halves[0])
    with pytest.raises(UsageError, match="other settings"):
        train_classifier(halves[0], FIT, file)
    with pytest.raises(UsageError, match="other labels"):
        train_classifier(halves[1], replace(FIT, epochs=1), file)
    file.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="cannot be read"):
        train_classifier(halves[0], replace(FIT, epochs=1), file)
