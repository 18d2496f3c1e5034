"""Folds: disjoint by patient, and leakage is refused."""

import json

import pytest
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.data.errors import FoldsError
from relatent.systems.anomaly.data.folds import Folds, Split, check_normal, make_folds, read_folds, write_folds
from relatent.systems.anomaly.data.names import format_name
from relatent.systems.anomaly.data.volume import Volume

PATIENTS = [f"p{i:02d}" for i in range(38)]
FOLDS = Folds((("a", "b"), ("c",), ("d",)), ("x",))


def volume(patient, label=0, level="L3"):
    return Volume(format_name(patient, level), patient, label, None)


def test_thirty_patients_in_five_folds_of_six_and_eight_held_out():
    folds = make_folds(PATIENTS, seed=42, held_out=8)
    assert [len(fold) for fold in (*folds.folds, folds.held_out)] == [6, 6, 6, 6, 6, 8]
    assert sorted(p for fold in (*folds.folds, folds.held_out) for p in fold) == PATIENTS


def test_folds_depend_on_the_seed_and_not_on_the_order_of_patients():
    folds = make_folds(PATIENTS, seed=1)
    assert folds == make_folds(PATIENTS[::-1] + PATIENTS, seed=1)
    assert folds != make_folds(PATIENTS, seed=2)


def test_too_few_patients_are_refused():
    for wrong in (dict(patients=PATIENTS[:4]), dict(patients=PATIENTS, held_out=34), dict(patients=PATIENTS, count=1)):
        with pytest.raises(UsageError):
            make_folds(seed=0, **wrong)


def test_a_file_is_read_as_it_was_written(tmp_path):
    write_folds(tmp_path / "folds.json", FOLDS)
    assert read_folds(tmp_path / "folds.json") == FOLDS


def test_split_takes_each_patient_once_and_trains_on_normal_volumes_only():
    volumes = [volume(p, label, level) for p in "abcdx" for label, level in ((0, "L1"), (1, "L2"), (None, "L3"))]
    for k in (1, 2, 3):
        training, validation, held_out = FOLDS.split(volumes, k)
        assert {v.patient for v in validation} == set(FOLDS.folds[k - 1])
        assert {v.patient for v in training} == set("abcd") - set(FOLDS.folds[k - 1])
        assert {v.label for v in training} == {v.label for v in validation} == {0}
        assert [(v.patient, v.label) for v in held_out] == [("x", 0), ("x", 1), ("x", None)]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"folds": [["a", "b"], ["b"]]}, "patient b is in the folds 1 and 2"),
        ({"folds": [["a", "a"], ["b"]]}, "patient a is in the folds 1 and 1"),
        ({"folds": [["a"], ["b"]], "held_out": ["a"]}, "patient a is held out and in a fold"),
        ({"folds": [["a"], ["b"]], "held_out": ["c", "c"]}, "twice"),
        ({"folds": [["a"], []]}, "two or more folds"),
        ({"folds": [["a"]]}, "two or more folds"),
        ({"folds": [["a"], [1]]}, "strings"),
        ({"folds": [["a"], "b"]}, "strings"),
        ({"folds": [["a"], ["b"]], "heldout": ["c"]}, "nothing else"),
        ([["a"], ["b"]], "expected an object"),
    ],
)
def test_leaks_and_other_forms_are_refused_in_one_line(tmp_path, value, words):
    path = tmp_path / "folds.json"
    path.write_text(json.dumps(value))
    with pytest.raises(FoldsError, match=words) as found:
        read_folds(path)
    assert len(str(found.value).splitlines()) == 1
    assert str(path) in str(found.value)


def test_damaged_and_absent_files_are_refused(tmp_path):
    for data in (b"", b"{", b"\xff\xfe", b"[" * 100_000):
        (tmp_path / "folds.json").write_bytes(data)
        with pytest.raises(FoldsError):
            read_folds(tmp_path / "folds.json")
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(FoldsError):
            read_folds(path)


def test_a_volume_of_an_unknown_patient_is_refused():
    with pytest.raises(FoldsError, match="do not know the patient z"):
        FOLDS.split([volume("a"), volume("c"), volume("z")], 1)


def test_a_fold_that_is_not_there_or_has_nothing_is_refused():
    for fold_id in (0, 4):
        with pytest.raises(UsageError, match="expected 1 to 3"):
            FOLDS.split([volume("a"), volume("c")], fold_id)
    for volumes in ([volume("a")], [volume("c")], [volume("a", 1), volume("c")], [volume("a", None), volume("c")]):
        with pytest.raises(FoldsError, match="fold 1 has"):
            FOLDS.split(volumes, 1)


def test_leakage_in_a_split_made_by_hand_is_refused():
    good = Split([volume("c"), volume("d")], [volume("a")], [volume("x")])
    FOLDS.check_split(good, 1)
    for bad, words in [
        (good._replace(training=[volume("c"), volume("a")]), "patient a must not be in training"),
        (good._replace(training=[volume("x")]), "patient x must not be in training"),
        (good._replace(validation=[volume("c")]), "patient c must not be in validation"),
        (good._replace(training=[volume("c", 1)]), "is abnormal and must not be in training"),
        (good._replace(validation=[volume("a", None)]), "has no label and must not be in validation"),
    ]:
        with pytest.raises(FoldsError, match=words):
            FOLDS.check_split(bad, 1)


def test_training_without_folds_is_checked_too():
    check_normal([volume("a")])
    with pytest.raises(FoldsError, match=r"vol_b_L3.* is abnormal"):
        check_normal([volume("a"), volume("b", 1)])
