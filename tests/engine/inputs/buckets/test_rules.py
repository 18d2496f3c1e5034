"""What holds for every picture: sides on the step, areas within the limit, and a crop that loses no more than the
trainer's."""

import pickle

import numpy as np
import pytest
from relatent.engine.errors import ImageError
from relatent.engine.inputs.buckets.registry import TRAINERS, parse_buckets
from relatent.engine.inputs.fitting import covering_size

RULES = [
    *("sd-scripts:512", "sd-scripts:1024x768,step=32", "sd-scripts:1024,no-upscale", "sd-scripts:640,step=8,min=64"),
    *("musubi", "musubi:1024,no-upscale", "musubi:512,step=32"),
    *("ai-toolkit:512", "ai-toolkit:1024,step=32", "ai-toolkit:1024,sdxl-list"),
    *("onetrainer:512", "onetrainer:1024,step=8", "onetrainer:768x512"),
    *("simpletuner:1024", "simpletuner:512,step=8", "simpletuner:512,type=pixel", "simpletuner:0.5,type=area"),
]
MOST_ASPECT = 4.0


@pytest.fixture(scope="module")
def pictures() -> list[tuple[int, int]]:
    """Sizes up to 4:1 and 1:4, from 64 to 4000 pixels, half of them on a multiple of 8."""
    random = np.random.default_rng(0)
    sizes = random.integers(64, 4000, (1500, 2))
    sizes[::2] -= sizes[::2] % 8
    return [(int(w), int(h)) for w, h in sizes if max(w / h, h / w) <= MOST_ASPECT]


@pytest.mark.parametrize("text", RULES)
def test_sides_are_on_the_step_and_the_resize_covers_them(text, pictures):
    rule = parse_buckets(text)
    assert len(pictures) > 1000
    for found in pictures:
        resized, target = rule.fit(found)
        assert rule.target(found) == target
        assert resized[0] >= target[0]
        assert resized[1] >= target[1]
        squares_of_reso = text == "simpletuner:512,type=pixel" and target == (512, 512)
        assert squares_of_reso or (target[0] % rule.step == 0 and target[1] % rule.step == 0)


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("sd-scripts:512", 512 * 512),
        ("sd-scripts:1024x768,step=32", 1024 * 768),
        ("sd-scripts:1024,no-upscale", 1.1 * 1024 * 1024),  # one side is rounded to the nearest step: it may exceed
        ("musubi", 960 * 544),
        ("musubi:1024,no-upscale", 1024 * 1024),
        ("ai-toolkit:1024,step=32", 1024 * 1024),
        ("ai-toolkit:1024,sdxl-list", 1344 * 800),
        ("onetrainer:512", 1.1 * 512 * 512),
        ("simpletuner:1024", 1.08 * 1024 * 1024),
    ],
)
def test_area_is_within_the_limit(text, most, pictures):
    rule = parse_buckets(text)
    areas = [width * height for width, height in map(rule.target, pictures)]
    assert max(areas) <= most
    assert max(areas) >= 0.85 * most  # the limit means something


@pytest.mark.parametrize("text", ["sd-scripts:1024,no-upscale", "musubi:1024,no-upscale"])
def test_no_upscale_never_asks_for_more_than_the_picture_has(text, pictures):
    rule = parse_buckets(text)
    for found in pictures:
        width, height = rule.target(found)
        assert width <= found[0]
        assert height <= found[1]


@pytest.mark.parametrize("text", [text for text in RULES if not text.startswith("simpletuner")])
def test_our_crop_loses_at_most_one_pixel_more_than_the_trainers(text, pictures):
    rule = parse_buckets(text)
    for found in pictures:
        resized, target = rule.fit(found)
        covering = covering_size(found, target)
        assert covering[0] <= resized[0] + 1
        assert covering[1] <= resized[1] + 1


@pytest.mark.parametrize("text", [text for text in RULES if text.startswith("simpletuner")])
def test_our_crop_loses_at_most_what_simpletuner_squeezes(text, pictures):
    """The trainer resizes to the rounded ratio, and some nearly square pictures to a square, so it crops less than one
    that keeps the proportions can: by the change of proportions, and no more.
    """
    rule = parse_buckets(text)
    squeezed = 0
    for found in pictures:
        resized, target = rule.fit(found)
        covering = covering_size(found, target)
        aspect = found[0] / found[1]
        trainers_aspect = 1.0 if resized == target and target[0] == target[1] else round(aspect, 2)
        change = max(aspect / trainers_aspect, trainers_aspect / aspect)
        assert covering[0] <= change * (resized[0] + 1) + 1
        assert covering[1] <= change * (resized[1] + 1) + 1
        squeezed += covering[0] > resized[0] + 1 or covering[1] > resized[1] + 1
    assert squeezed


def test_a_picture_of_a_buckets_own_size_keeps_it():
    assert parse_buckets("sd-scripts:512").target((512, 512)) == (512, 512)
    assert parse_buckets("musubi:1024").target((1248, 832)) == (1248, 832)
    assert parse_buckets("ai-toolkit:1024,step=32").target((1024, 960)) == (1024, 960)
    assert parse_buckets("sd-scripts:512,no-upscale").target((448, 576)) == (448, 576)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sd-scripts:512,no-upscale", (63, 400)),
        ("sd-scripts:512,no-upscale", (20, 90000)),
        ("musubi:512,no-upscale", (15, 400)),
        ("ai-toolkit:512,sdxl-list", (10, 10)),
        ("simpletuner:512", (20, 9000)),
    ],
)
def test_pictures_without_a_bucket(text, found):
    with pytest.raises(ImageError, match=f"{found[0]}×{found[1]} pixels"):
        parse_buckets(text).target(found)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_rules_travel_to_workers(trainer):
    rule = parse_buckets(trainer)
    before = rule.target((1500, 1000))
    copy = pickle.loads(pickle.dumps(rule))
    assert copy == rule
    assert hash(copy) == hash(rule)
    assert copy.target((1500, 1000)) == before
