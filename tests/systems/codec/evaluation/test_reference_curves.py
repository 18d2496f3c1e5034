"""Published curves from files."""

import json

import pytest
from relatent.engine.errors import UsageError
from relatent.systems.codec.evaluation.reference_curves import load_references


@pytest.fixture
def folder(tmp_path):
    results = {"psnr-rgb": [35.0, 30.0], "bpp": [0.5, 0.2], "encoding_time": [1, 1]}
    (tmp_path / "one.json").write_text(json.dumps({"name": "One", "results": results}))
    several = {"dataset": "kodak", "lambda": [1, 2], "A": {"bpp": [0.1, 0.2], "psnr": [30, 31]}}
    (tmp_path / "several.json").write_text(json.dumps(several | {"B": {"bpp": [0.3, 0.4], "psnr": [32, 33]}}))
    (tmp_path / "paper-kodak-x-psnr.csv").write_text("0.1, 28.5\n0.3, 31.0\n")
    (tmp_path / "paper-tecnick-x-psnr.csv").write_text("0.1, 29.5\n0.3, 32.0\n")
    (tmp_path / "table-kodak.tsv").write_text(
        "lmbda\tseq_name\tpsnr_db\trate_bpp\n1\ta\t40\t2\n2\ta\t30\t1\n1\tb\t42\t4\n2\tb\t31\t1.5\n"
    )
    (tmp_path / "LICENSE.paper").write_text("free")
    return tmp_path


def test_each_layout(folder):
    assert load_references(folder) == {
        "One": [(0.2, 30.0), (0.5, 35.0)],
        "A": [(0.1, 30.0), (0.2, 31.0)],
        "B": [(0.3, 32.0), (0.4, 33.0)],
        "paper-x": [(0.1, 28.5), (0.3, 31.0)],
        "table": [(1.25, 30.5), (3.0, 41.0)],
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "{"),
        ("a.json", "[1]"),
        ("a.json", '{"name": "x", "results": {"bpp": [1, 2], "psnr-rgb": [30]}}'),
        ("a.json", '{"name": "x", "results": {"bpp": [1, 2]}}'),
        ("a.json", '{"A": {"bpp": 1, "psnr": 2}}'),
        ("a.csv", "1,2,3\n"),
        ("a.csv", "bpp,psnr\n"),
        ("a.csv", "0.1,30\n"),
        ("a.tsv", "lmbda\trate\n1\t2\n"),
        ("a.csv", b"\xff\xfe"),
    ],
)
def test_a_file_that_is_no_curve_is_named(folder, name, content):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=f"{name}: cannot be read as a rate-distortion curve") as caught:
        load_references(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_without_curves(tmp_path):
    with pytest.raises(UsageError, match="no curve in it"):
        load_references(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        load_references(tmp_path / "none")


def test_the_published_ones(references):
    curves = load_references(references)
    assert len(curves) == 17  # 11 of CompressAI, two of HPCM, three of Yang et al., Cool-Chic
    assert curves["HPCM-Large"][0] == (0.0951, 28.9135)
    assert curves["cool-chic-5.0"][-1] == pytest.approx((1.357134, 41.167492), abs=1e-6)  # means over 24 pictures
    assert not any("tecnick" in name for name in curves)
