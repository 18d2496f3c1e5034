"""run.json as a typed record: the same JSON out as in, and clear errors for what is damaged, foreign or newer."""

import dataclasses
import json
import tarfile
from pathlib import Path

import pytest
from relatent import OptimizationConfig
from relatent.engine.errors import DatasetError
from relatent.factory.state.record import RunRecord, identity_differences
from relatent.factory.state.run_folder import RunFolder
from relatent.factory.state.settings import RunSettings

ARCHIVE = Path(__file__).resolve().parents[2] / "data" / "runs-0.1.0.tar.xz"

pytestmark = pytest.mark.filterwarnings("error::FutureWarning")


@pytest.fixture(scope="module", params=["finished", "interrupted"])
def old(request) -> dict:
    """The contents of a run.json of version 0.1.0."""
    with tarfile.open(ARCHIVE) as archive:
        return json.load(archive.extractfile(f"{request.param}/run.json"))


def changed(values: dict, **changes) -> dict:
    return json.loads(json.dumps(values)) | changes


def test_the_json_comes_back_as_it_was_but_for_renamed_keys(old):
    text = json.dumps(old, indent=1).replace("polish_iterations", "refinement_iterations")
    assert json.dumps(RunRecord.from_json(old).to_json(), indent=1) == text


def test_a_renamed_setting_keeps_its_value(old):
    old = changed(old, config=old["config"] | {"polish_iterations": 3})
    record = RunRecord.from_json(old)
    assert record.optimization_config().refinement_iterations == 3
    same = dataclasses.replace(record, config=OptimizationConfig.from_dict(record.config).to_dict())
    assert record.differences(same) == []
    other = dataclasses.replace(record, config=record.config | {"refinement_iterations": 4})
    assert record.differences(other) == ["refinement_iterations was 3, now 4"]


def test_settings_that_an_older_version_did_not_know_count_with_their_default(old):
    record = RunRecord.from_json(old)
    older = dataclasses.replace(
        record, config={key: value for key, value in record.config.items() if key != "warm_start"}
    )
    assert older.differences(record) == []
    wanted = dataclasses.replace(record, config=record.config | {"warm_start": 7})
    assert older.differences(wanted) == ["warm_start was 1, now 7"]


def test_an_identity_is_compared_by_what_was_recorded(old):
    record = RunRecord.from_json(old)
    assert identity_differences(record.vae, record.vae | {"scaling": [1.0, 2.0]}) == []
    assert record.differences(dataclasses.replace(record, vae=record.vae | {"scaling": "mean and deviation"})) == []
    assert identity_differences(record.vae, record.vae | {"weights_sha256": "0"}) == [
        f"weights_sha256 was {record.vae['weights_sha256']!r}, now '0'"
    ]


def test_what_says_how_a_run_goes_on_is_no_difference(old):
    record = RunRecord.from_json(old)
    settings = dataclasses.replace(record.settings, input="other", formats=("pt",), shard_size=9, device="cuda")
    assert record.differences(dataclasses.replace(record, settings=settings)) == []
    settings = dataclasses.replace(record.settings, size=128, seed=1)
    found = record.differences(dataclasses.replace(record, settings=settings))
    assert found == ["size was 64, now 128", "seed was 0, now 1"]


def test_missing_settings_take_their_default():
    settings = RunSettings.from_json({"input": "photos", "vae": None, "size": 64})
    assert settings == RunSettings(input="photos", vae=None, size=64)
    assert settings.formats == ("hdf5",)
    assert RunSettings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": "relatent/2"}, "run.json is not of schema relatent/1"),
        ({"settings": []}, "run.json is damaged: settings: expected dict, found"),
        ({"settings": {"vae": None, "size": 64}}, "settings is damaged: it lacks input"),
        ({"settings": {"input": "a", "vae": None, "size": "64"}}, "size: expected int or list or null, found '64'"),
        ({"settings": {"input": "a", "vae": None, "size": True}}, "size: expected int or list or null, found True"),
        ({"settings": {"input": "a", "vae": None, "size": 64, "depth": 3}}, "settings has keys.*depth.*newer version"),
        ({"views": 2}, "run.json has keys that this version does not know: views; it is of a newer version"),
        ({"failures": [{"name": "a"}]}, "run.json is damaged: failures"),
        ({"counts": {"total": 3}}, "counts lacks done, failed"),
        ({"status": None}, "status: expected str, found None"),
    ],
)
def test_damaged_foreign_and_newer_records_are_refused(old, tmp_path, changes, words):
    with pytest.raises(DatasetError, match=words):
        RunRecord.from_json(changed(old, **changes))
    (tmp_path / "run.json").write_text(json.dumps(changed(old, **changes)))
    with pytest.raises(DatasetError, match=words):
        RunFolder.open(tmp_path)


def test_a_record_that_lacks_keys_is_refused(old):
    del (values := changed(old))["vae"]
    with pytest.raises(DatasetError, match="it lacks vae"):
        RunRecord.from_json(values)


def test_a_folder_replaces_its_record(old, tmp_path):
    folder = RunFolder(tmp_path, RunRecord.from_json(old))
    before = folder.record
    folder.update(status="failed", engine=None)
    assert (before.status, folder.record.status) == (old["status"], "failed")
    folder.save()
    assert "engine" not in json.loads((tmp_path / "run.json").read_text())
    assert RunFolder.open(tmp_path).record == folder.record
    with pytest.raises(dataclasses.FrozenInstanceError):
        folder.record.status = "done"
