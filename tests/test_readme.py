"""The README's Python examples run as they stand, and its commands exist."""

import re
from pathlib import Path

import pytest
import torch
from relatent.engine.inputs.buckets.registry import parse_buckets
from relatent.exporters.base.registry import FORMATS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_examples(photographs, tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    photographs.rename(tmp_path / "photos")
    torch.manual_seed(0)
    names: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    gains = [float(value) for value in re.findall(r"([-\d.]+) dB gained", capsys.readouterr().out)]
    assert len(gains) == 2
    assert min(gains) > 0
    assert names["latents"].shape == (2, 4, 8, 8)
    assert names["batch"]["optimized_latents"].shape[1:] == (4, 8, 8)


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = set(re.findall(r"\bmake ([a-z]+)\b", README)) - {"pictures"}
    assert mentioned <= targets
    assert {"demo", "test", "lint", "bench", "help"} <= targets


def test_links_lead_somewhere():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("benchmarks/results/*.json")), ids=lambda path: path.stem)
def test_readme_figures_are_those_of_the_results(path):
    import json

    from relatent.benchmarks import bench_factory, bench_loop, codec
    from relatent.benchmarks.anomaly import methods
    from relatent.benchmarks.latents_for_training import __main__ as study
    from relatent.benchmarks.latents_for_training import summary as summary_of_study
    from relatent.benchmarks.presets import __main__ as presets
    from relatent.benchmarks.research import codec_phase1, quality, regularisers, roundtrip
    from relatent.benchmarks.research import time_to_target as time_to_target
    from relatent.benchmarks.spectrogram import guidance
    from relatent.benchmarks.spectrogram import methods as spectrogram_methods
    from relatent.systems.codec.evaluation.markdown_tables import markdown_tables

    tables = {"roundtrip": roundtrip.table, "quality": quality.preset_table, "time_to_target": time_to_target.table}
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["hardware"]["name"]
    if content["benchmark"] in tables:
        assert tables[content["benchmark"]](content["results"]) in README
    if content["benchmark"] == "factory":
        assert bench_factory.table(content["rows"]) in README
    if content["benchmark"] == "regularisers":
        assert regularisers.table(content["results"]) in regularisers.PAGE.read_text(encoding="utf-8")
    if content["benchmark"] == "codec":
        assert markdown_tables(content).strip() in (ROOT / "docs/codec.md").read_text(encoding="utf-8")
    if content["benchmark"] == "codec_refinement":
        assert codec.refinement_table(content["refined"]) in (ROOT / "docs/codec.md").read_text(encoding="utf-8")
        evaluation = json.loads(
            path.with_name(path.name.replace("codec_refinement", "codec")).read_text(encoding="utf-8")
        )
        assert codec.summary_table(evaluation, content["refined"]) in README
    if content["benchmark"] == "codec_phase1":
        assert codec_phase1.table(content) in (ROOT / "docs/codec_training.md").read_text(encoding="utf-8")
    if content["benchmark"] == "anomaly_methods":
        summary, seeds = methods.summarise(content["seeds"]), len(content["seeds"])
        assert summary == content["summary"]
        assert methods.table(summary, seeds) in methods.PAGE.read_text(encoding="utf-8")
        assert methods.short_table(summary, seeds) in README
    if content["benchmark"] == "latents_for_training":
        assert summary_of_study.tables(content["domains"]) in study.PAGE.read_text(encoding="utf-8")
    if content["benchmark"] == "presets":
        assert presets.table(content["results"]) in presets.PAGE.read_text(encoding="utf-8")
    if content["benchmark"] == "spectrogram_methods":
        assert spectrogram_methods.table(content) in spectrogram_methods.PAGE.read_text(encoding="utf-8")
    if content["benchmark"] == "spectrogram_guidance":
        assert guidance.table(content["scales"]) in guidance.PAGE.read_text(encoding="utf-8")
    page = quality.PAGE.read_text(encoding="utf-8")
    if content["benchmark"] == "loop":
        assert bench_loop.table(content["results"]) in page
    if content["benchmark"] == "quality":
        assert quality.claim_table(content["results"]) in page
    if content["benchmark"] == "quality_val":
        assert quality.rival_table(content["results"]) in page


def test_buckets_and_formats_that_pages_name_exist():
    """Every `--buckets RULE` parses, and every `--format NAME` is one."""
    rules, formats = set(), set()
    for page in ("README.md", "docs/exports.md", "docs/buckets.md"):
        text = (ROOT / page).read_text()
        rules |= set(re.findall(r"--buckets ([a-z-]+:[\w.,=-]+)", text))
        formats |= set(re.findall(r"--format ([a-z0-9-]+)", text))
    assert len(rules) > 8
    assert {parse_buckets(rule) for rule in rules}
    assert len(formats) > 8
    assert formats <= set(FORMATS)
