"""The page of a run: what it says is what the run recorded, what it shows is what the shards hold."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import relatent
import torch
import torch.nn.functional as F
from helpers import picture
from PIL import Image
from relatent.cli.main import main
from relatent.engine.optimization.batcher import Batcher
from relatent.factory import report
from relatent.factory.state.run_folder import RunFolder

QUICK = relatent.OptimizationConfig(iterations=3)
EMPTY = {"meta", "img", "input", "br"}  # elements without an end


class Page(HTMLParser):
    """Text, headings and pictures of a page; fails on elements that do not nest."""

    def __init__(self, path):
        super().__init__()
        self.open, self.pictures, self.words, self.headings, self.outside = [], {}, [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        for name in ("src", "href"):
            if name in attributes and not attributes[name].startswith("data:"):
                self.outside.append(attributes[name])
        if tag == "img":
            self.pictures[attributes["alt"]] = Image.open(io.BytesIO(base64.b64decode(attributes["src"].split(",")[1])))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h2", "h3", "h4"):
            self.headings.append(data)
        if "style" not in self.open:
            self.words.append(data)


def run(source, out, vae, **options):
    return relatent.optimize_directory(source, out, vae, **({"config": QUICK, "size": 32} | options))


def records(out):
    return [one for batch in RunFolder.open(out).records() for one in batch]


def test_the_page_says_and_shows_what_the_run_has(photographs, tmp_path, small_vae, capsys):
    out = tmp_path / "out"
    (photographs / "<b>.png").write_text("no picture")
    found = run(photographs, out, small_vae)
    assert main(["report", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    page = Page(out / "report.html")
    assert page.outside == []
    assert "4 of 5 pictures" in page.text
    values = found["statistics"]
    for text in (
        f"{values['psnr_improvement']['mean']:+.2f} dB",
        f"{values['initial_psnr']['mean']:.2f} → {values['final_psnr']['mean']:.2f} dB",
        f"{values['final_ssim']['median']:.4f}",
        "excess kurtosis",
        "<b>.png load",
        found["vae"]["weights_sha256"],
    ):
        assert text in page.text, text
    ranked = sorted(records(out), key=lambda one: one.metrics["psnr_improvement"])
    shown = [text for text in page.headings if "/" in text]
    assert shown == [f"{one.split}/{one.name}" for one in ranked]
    for one in ranked:
        for name, pixels in one.images.items():
            np.testing.assert_array_equal(np.asarray(page.pictures[f"{name} of {one.split}/{one.name}"]), pixels)
    plots = [image for name, image in page.pictures.items() if " of all" not in name and image.width > 500]
    assert len(plots) == 3
    assert all(len(np.unique(np.asarray(plot.convert("L")))) > 30 for plot in plots)


def test_of_many_pictures_it_shows_the_least_the_middle_and_the_most(tmp_path, small_vae):
    source = tmp_path / "in"
    source.mkdir()
    for seed in range(11):
        Image.fromarray(picture(seed=seed)).save(source / f"{seed}.png")
    run(source, tmp_path / "out", small_vae, shard_size=3, keep_images=False)
    page = Page(report.write_report(tmp_path / "out"))
    ranked = [one.name for one in sorted(records(tmp_path / "out"), key=lambda one: one.metrics["psnr_improvement"])]
    rows = re.findall(r"all/(\d+) \d", page.text)
    assert rows == ranked
    assert "kept no pictures" in page.text


def test_the_groups_and_the_detail_of_large_pictures(tmp_path, small_vae, monkeypatch):
    monkeypatch.setattr(report, "DETAIL", 20)
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for seed in range(9):
        Image.fromarray(picture(seed=seed)).save(source / f"{seed}.png")
    run(source, out, small_vae)
    page = Page(report.write_report(out))
    assert [text for text in page.headings if "/" not in text][1:4] == ["Least gain", "Around the median", "Most gain"]
    ranked = sorted(records(out), key=lambda one: one.metrics["psnr_improvement"])
    corners = set()
    for one in [*ranked[:3], *ranked[4:6], *ranked[-3:]]:
        error = torch.from_numpy((one.images["initial"] / 255.0 - one.images["original"] / 255.0) ** 2).sum(2)[None]
        worst = F.avg_pool2d(error, 20, stride=1).argmax().item()
        top, left = divmod(worst, 32 - 20 + 1)
        corners.add((top, left))
        shown = np.asarray(page.pictures[f"original of all/{one.name}"])
        np.testing.assert_array_equal(shown, one.images["original"][top : top + 20, left : left + 20])
    assert len(corners) > 2


def test_a_run_that_is_not_done(photographs, tmp_path, small_vae, monkeypatch, capsys):
    batches = Batcher.batches

    def interrupted(self, *pictures):
        for outcome in batches(self, *pictures):
            yield outcome
            raise KeyboardInterrupt

    monkeypatch.setattr(Batcher, "batches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(photographs, tmp_path / "out", small_vae, batch_size=1)
    page = Page(report.write_report(tmp_path / "out"))
    assert "The run is not done (interrupted)" in page.text
    assert "1 of 4 pictures" in page.text
    capsys.readouterr()
    assert main(["report", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(tmp_path / "out" / "report.html")}


def test_nothing_to_show(tmp_path, small_vae, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("nothing")
    run(tmp_path / "in", tmp_path / "out", small_vae)
    assert main(["report", str(tmp_path / "out")]) == 2
    assert "no finished picture yet" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*report*"))
