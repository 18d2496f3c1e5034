"""Views of pictures: the registry, what each does to pixels and weights, and records by view."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.engine.inputs.views import FLIPPED, PLAIN, VIEWS, View, resolve_views, run_views
from relatent.engine.records import Outcome, Record, outcomes_by_view


def outcome(value):
    latents = np.full((1, 2, 2), value, np.float32)
    return Outcome(latents, latents, [1.0], None, "iterations", {})


def record(value, **views):
    return Record(**vars(outcome(value)), name="a", split="all", source_path="a.png", original_size=(8, 8), views=views)


def test_names_and_suffixes_are_what_files_have():
    assert {name: (view.name, view.suffix) for name, view in VIEWS.items()} == {
        "plain": ("plain", ""), "flipped": ("flipped", "_flipped"),
    }  # fmt: skip
    assert (VIEWS[FLIPPED].phrase, VIEWS[FLIPPED].label) == ("mirrored left-right", "mirrored")
    assert View("rotated", "_rotated", lambda pixels: pixels).label == "rotated"
    assert (run_views(False), run_views(True)) == ((PLAIN,), (PLAIN, FLIPPED))


def test_the_mirrored_view_of_pixels_and_of_planes():
    pixels = torch.arange(2 * 3 * 5 * 3, dtype=torch.uint8).view(2, 3, 5, 3)
    assert torch.equal(VIEWS[PLAIN].apply(pixels), pixels)
    assert np.array_equal(VIEWS[FLIPPED].apply(pixels).numpy(), pixels.numpy()[:, :, ::-1])
    for channels in (1, 3):
        planes = torch.rand(2, channels, 3, 5)
        assert torch.equal(VIEWS[PLAIN].apply_to_planes(planes), planes)
        assert torch.equal(VIEWS[FLIPPED].apply_to_planes(planes), planes.flip(-1))


def test_a_list_of_views_begins_with_the_plain_one_and_names_what_exists():
    assert resolve_views(["plain", "flipped"]) == [VIEWS["plain"], VIEWS["flipped"]]
    with pytest.raises(UsageError, match="unknown view 'upside-down'; expected one of plain, flipped"):
        resolve_views(["plain", "upside-down"])
    for names in ([], ["flipped"], ["flipped", "plain"]):
        with pytest.raises(UsageError, match="expected 'plain' first"):
            resolve_views(names)


def test_a_record_tells_its_outcomes_by_view_the_plain_one_first(monkeypatch):
    monkeypatch.setitem(VIEWS, "rotated", View("rotated", "_rotated", lambda pixels: pixels.rot90(2, (-3, -2))))
    one, two = (record(i, rotated=outcome(i + 20), flipped=outcome(i + 10)) for i in (0, 1))
    assert [(view.name, found.optimized_latents.max()) for view, found in one.all_views()] == [
        ("plain", 0), ("flipped", 10), ("rotated", 20),
    ]  # fmt: skip
    assert one.all_views()[0][1] is one
    assert [(view.name, [found.optimized_latents.max() for found in column]) for view, column in outcomes_by_view([one, two])] == [
        ("plain", [0, 1]), ("flipped", [10, 11]), ("rotated", [20, 21]),
    ]  # fmt: skip
    assert record(3).views == {}
    assert [view.name for view, _ in record(3).all_views()] == ["plain"]
    assert outcomes_by_view([]) == []


def test_records_and_views_come_without_torch():
    code = "import sys, relatent.engine.records; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
