"""The text that names a trainer's buckets."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from relatent.engine.errors import UsageError
from relatent.engine.inputs.buckets.ai_toolkit import AIToolkit
from relatent.engine.inputs.buckets.musubi import Musubi
from relatent.engine.inputs.buckets.onetrainer import OneTrainer
from relatent.engine.inputs.buckets.registry import TRAINERS, parse_buckets
from relatent.engine.inputs.buckets.sd_scripts import SdScripts
from relatent.engine.inputs.buckets.simpletuner import SimpleTuner


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("sd-scripts", SdScripts((512, 512), 64, 256, 1024, False)),
        ("sd-scripts:512", SdScripts((512, 512), 64, 256, 1024, False)),
        ("sd-scripts:1024x768,step=32,min=128,max=2048,no-upscale", SdScripts((1024, 768), 32, 128, 2048, True)),
        ("sd-scripts:,step=8", SdScripts((512, 512), 8, 256, 1024, False)),
        ("musubi", Musubi((960, 544), 16, False)),
        ("musubi:1024X512, step=32, no-upscale", Musubi((1024, 512), 32, True)),
        ("ai-toolkit", AIToolkit(512, 16, False)),
        ("ai-toolkit:1024,step=32,sdxl-list", AIToolkit(1024, 32, True)),
        ("onetrainer", OneTrainer(512, 64)),
        ("onetrainer:1024,step=32", OneTrainer(1024, 32)),
        ("onetrainer:768x512", OneTrainer((768, 512), 64)),
        ("simpletuner", SimpleTuner(1024, "pixel_area", 64, 2)),
        ("simpletuner:0.5,type=area,step=8,rounding=3", SimpleTuner(0.5, "area", 8, 3)),
        ("simpletuner:512,type=pixel", SimpleTuner(512, "pixel", 64, 2)),
    ],
)
def test_text_and_defaults(text, rule):
    assert parse_buckets(text) == rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "kohya:512",
            "expected TRAINER[:RESO[,OPTION…]] with one of sd-scripts, musubi, ai-toolkit, onetrainer, simple",
        ),
        ("", "found ''"),
        ("sd-scripts,step=32", "found 'sd-scripts,step=32'"),
        ("sd-scripts:big", "sd-scripts: resolution: expected N or WxH, each from 8 to 16384 pixels, found 'big'"),
        ("sd-scripts:512x", "found '512x'"),
        ("sd-scripts:1x2x3", "found '1x2x3'"),
        ("sd-scripts:512²", "found '512²'"),
        ("sd-scripts:-512", "found '-512'"),
        ("sd-scripts:512,steps=64", "unknown option 'steps=64'; known: step=8 to 512 in steps of 8, min=8 to 16384"),
        ("sd-scripts:512,", "unknown option ''"),
        ("sd-scripts:512,step=60", "expected step=8 to 512 in steps of 8, found 'step=60'"),
        ("sd-scripts:512,step", "expected step=8 to 512 in steps of 8, found 'step'"),
        ("sd-scripts:512,no-upscale=1", "expected no-upscale without a value, found 'no-upscale=1'"),
        ("sd-scripts:512,step=8,step=64", "'step=64' is given twice"),
        ("sd-scripts:1536", "max=1024 is below the resolution 1536×1536; set max=1536"),
        ("sd-scripts:128,no-upscale", "min=256 is over the resolution 128×128; set min=128"),
        ("sd-scripts:512,min=32", "min=32 is below step=64; set min=64"),
        ("musubi:512,min=256", "unknown option 'min=256'; known: step=16 to 32 in steps of 16, no-upscale"),
        ("musubi:48,step=32", "expected at least the area of 64×64 pixels for step=32, found 48×48"),
        ("ai-toolkit:1024x512", "ai-toolkit: resolution: expected N from 8 to 16384 pixels, found '1024x512'"),
        ("onetrainer:512,no-upscale", "unknown option 'no-upscale'; known: step=8 to 512 in steps of 8"),
        ("onetrainer:64", "resolution: 64 gives a bucket a side of 0 pixels at step=64"),
        ("onetrainer:1024x24", "(1024, 24) gives a bucket a side of 0 pixels at step=64"),
        ("simpletuner:1.0", "simpletuner: resolution: expected N from 8 to 16384 pixels, found '1.0'"),
        ("simpletuner:1024,type=area", "expected 0.01 to 100 megapixels for type=area, found '1024'"),
        ("simpletuner:nan,type=area", "expected 0.01 to 100 megapixels for type=area, found 'nan'"),
        ("simpletuner:512,type=edge", "expected type=pixel_area|area|pixel, found 'type=edge'"),
        ("simpletuner:512,rounding=0", "expected rounding=1 to 9, found 'rounding=0'"),
    ],
)
def test_what_is_refused(text, words):
    with pytest.raises(UsageError) as caught:
        parse_buckets(text)
    assert words in str(caught.value)
    assert str(caught.value).startswith("buckets: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_defaults_are_valid_and_every_option_has_a_field(trainer):
    rule = parse_buckets(trainer)
    assert rule == parse_buckets(f"{trainer}:{rule.DEFAULT}")
    assert {name.replace("-", "_") for name in rule.OPTIONS} | {"resolution"} == set(vars(rule)) - {"_buckets"}


def test_the_page_names_every_trainer_and_option_and_its_examples_are_valid():
    page = (Path(__file__).resolve().parents[4] / "docs" / "buckets.md").read_text(encoding="utf-8")
    examples = re.findall(r"^--buckets ([a-z].*)$", page, re.MULTILINE)
    assert len(examples) == 3
    for example in examples:
        parse_buckets(example)
    for name, trainer in TRAINERS.items():
        (row,) = re.findall(rf"^\| `{name}` \| `N`.*$", page, re.MULTILINE)
        assert trainer.DEFAULT in row
        assert not [option for option in trainer.OPTIONS if f"`{option}" not in row]


def test_torch_is_not_imported():
    code = "import sys, relatent.engine.inputs.buckets.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
