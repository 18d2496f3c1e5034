"""Tables of scans: what they say, what is refused in one line."""

import json

import pytest
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.data.label_tables import TOTALSEGMENTATOR, read_table
from relatent.systems.anomaly.data.scan_list import Scan, read_scans


def test_csv_and_json_say_the_same(tmp_path):
    (tmp_path / "a.csv").write_text(
        '\ufeffscan,mask,patient,labels,label\nct.nii,m.nii,p1,,\n"c,t.nii",m.nii,p2,verse,"{""L3"": 1}"\nc.nii,m.nii,p3,t.json,0\n'
    )
    rows = [
        {"scan": "ct.nii", "mask": "m.nii", "patient": "p1"},
        {"scan": "c,t.nii", "mask": "m.nii", "patient": "p2", "labels": "verse", "label": {"L3": 1}},
        {"scan": "c.nii", "mask": "m.nii", "patient": "p3", "labels": "t.json", "label": 0},
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    for name in ("a.csv", "a.json"):
        scans = read_scans(tmp_path / name, "totalsegmentator")
        assert [(one.scan, one.patient, one.labels) for one in scans] == [
            ("ct.nii", "p1", "totalsegmentator"),
            ("c,t.nii", "p2", "verse"),
            ("c.nii", "p3", "t.json"),
        ]
        assert [one.known() for one in scans] == [None, {"L3": 1}, 0]
        assert {one.folder for one in scans} == {tmp_path}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "", "one row or more"),
        ("a.csv", "scan,mask,patient\n", "one row or more"),
        ("a.csv", "scan,mask\na,b\n", r"row 1: expected scan, mask, patient"),
        ("a.csv", "scan,mask,patient\na,b,c\na,,c\n", r"row 2: expected scan, mask, patient"),
        ("a.csv", "scan,mask,patient\na,b,c,d\n", "unknown column None"),
        ("a.csv", "scan,mask,patient,age\na,b,c,3\n", "unknown column age"),
        ("a.csv", 'scan,mask,patient\na,b,"c\n', "no table of scans"),
        ("a.json", "{", "no table of scans"),
        ("a.json", "{}", "one row or more"),
        ("a.json", "[1]", "one row or more"),
        ("a.json", '[{"scan": 1, "mask": "m", "patient": "p"}]', "as text"),
        ("a.json", '[{"scan": "s", "mask": "m", "patient": "p", "labels": 3}]', "labels is 3"),
    ],
)
def test_tables_that_are_none(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=words) as found:
        read_scans(tmp_path / name, "verse")
    assert len(str(found.value).splitlines()) == 1


def test_tables_that_are_not_there(tmp_path):
    for path in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(UsageError, match=r"cannot be read|a folder"):
            read_scans(path, "verse")


@pytest.mark.parametrize("label", ["2", "normal", True, 1.0, {"L9": 1}, {"L3": 2}, [0], '{"L3": "1"}'])
def test_labels_that_are_none(label):
    with pytest.raises(UsageError, match="label: expected"):
        Scan("s", "m", "p", "verse", label).known()


def test_tables_of_numbers(tmp_path):
    (tmp_path / "own.json").write_text('{"1": "T12"}')
    assert read_table("own.json", tmp_path) == read_table({"1": "T12"}, tmp_path) == {1: "T12"}
    assert read_table("totalsegmentator", tmp_path) == TOTALSEGMENTATOR
    for value in ({}, {"0": "T12"}, {"x": "T12"}, {"1": "C1"}, {"1": "T12", "2": "T12"}, {"1": 3}, {"1": []}):
        (tmp_path / "wrong.json").write_text(json.dumps(value))
        for table in ("wrong.json", value):
            with pytest.raises(UsageError, match="labels: "):
                read_table(table, tmp_path)
    for table in ("vertebrae", "absent.json"):
        with pytest.raises(UsageError, match="labels: "):
            read_table(table, tmp_path)
