"""Names of volumes' files."""

import pytest
from relatent.engine.errors import UsageError
from relatent.systems.anomaly.data.errors import VolumeError
from relatent.systems.anomaly.data.names import LEVELS, format_name, parse_name


def test_fourteen_levels_from_t4_to_l5():
    assert LEVELS == ("T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")


@pytest.mark.parametrize("patient", ["p01", "7", "verse_012", "a-b.c", "p_L3"])
def test_names_are_parsed_as_they_are_formatted(patient):
    for level in LEVELS:
        name = format_name(patient, level)
        assert name == f"vol_{patient}_{level}.npy"
        assert parse_name(f"folder/{name}") == (patient, level)


@pytest.mark.parametrize(
    "name",
    ["vol_p01_T3.npy", "vol_p01_L6.npy", "vol_p01_l3.npy", "vol__L3.npy", "p01_L3.npy", "vol_p01_L3.npz", "vol_L3.npy",
     "vol_p 1_L3.npy", "vol_p01_L3.npy\n", "vol_p01_T4x.npy"],
)  # fmt: skip
def test_other_names_are_refused_in_one_line(name):
    with pytest.raises(VolumeError, match=r"vol_p01_L3.*, a level from T4 to L5") as found:
        parse_name(name)
    assert "\n" not in str(found.value).removeprefix(name)


def test_what_names_cannot_hold_is_refused():
    for patient, level in [("p01", "S1"), ("p/1", "L3"), ("", "L3"), ("..", "L3"), ("p\n", "L3")]:
        with pytest.raises(UsageError):
            format_name(patient, level)
