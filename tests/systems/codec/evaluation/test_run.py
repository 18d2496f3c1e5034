"""The files of an evaluation: JSON, plots and tables."""

import json

import pytest
import torch
from PIL import Image
from relatent.engine.errors import UsageError
from relatent.systems.codec.bitstream.image_codec import ImageCodec
from relatent.systems.codec.evaluation import run as run_module
from relatent.systems.codec.evaluation.markdown_tables import markdown_tables
from relatent.systems.codec.evaluation.rd_plot import rd_plot
from relatent.systems.codec.evaluation.run import run_evaluation
from synthetic_pictures import picture_of


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate("abc"):
        Image.fromarray(picture_of(64, 80, seed).permute(1, 2, 0).numpy()).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def published(tmp_path):
    folder = tmp_path / "published"
    folder.mkdir()
    results = {"psnr-rgb": [15.0, 30.0], "bpp": [0.1, 1.0]}
    (folder / "x.json").write_text(json.dumps({"name": "Theirs", "results": results}))
    return folder


def test_all_files_are_written(folder, codec, published, tmp_path):
    lines, out = [], folder / "0"  # before the pictures in their order
    codecs = {"1": codec, "large/2": ImageCodec(codec.model, codec.tables, 0.05)}
    for _ in range(2):  # the second time over what is there, whose pictures are not taken for pictures of the folder
        result = run_evaluation(folder, out, codecs, published, limit=2, progress=lines.append)
    files = ["evaluation.json", "rd.png", "spectrum_1.png", "spectrum_large_2.png", "table.md"]
    assert sorted(path.name for path in out.iterdir()) == files
    assert json.loads((out / "evaluation.json").read_text()) == json.loads(json.dumps(result))
    assert result["pictures"]["names"] == ["a.png", "b.png"]
    assert result["pictures"]["folder"] == "photos"
    assert str(tmp_path) not in (out / "evaluation.json").read_text()
    assert result["libraries"]["WebP"]
    assert {(e["against"], e["source"]) for e in result["bd_rate"]} >= {("Theirs", "published"), ("JPEG", "measured")}
    assert (out / "table.md").read_text() == markdown_tables(result)
    for path in out.glob("*.png"):
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.width > 1000


def test_two_threads_are_used_at_most(folder, codec, tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert run_evaluation(folder, tmp_path / "out", {"1": codec}, limit=1)["machine"]["threads"] == 2
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_nothing_is_written_under_its_name_before_it_is_complete(folder, codec, tmp_path, monkeypatch):
    def broken(result, published, path):
        path.write_bytes(b"half a picture")
        raise OSError("disk full")

    monkeypatch.setattr(run_module, "rd_plot", broken)
    with pytest.raises(OSError, match="disk full"):
        run_evaluation(folder, tmp_path / "out", {"1": codec}, limit=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["spectrum_1.png"]


def test_references_are_read_before_pictures_are(folder, codec, tmp_path):
    lines = []
    with pytest.raises(UsageError, match="no such folder"):
        run_evaluation(folder, tmp_path / "out", {"1": codec}, tmp_path / "none", progress=lines.append)
    assert lines == []
    assert not (tmp_path / "out").exists()


def curve(kind, *points):
    rates = []
    for quality, (bpp, psnr) in enumerate(points):
        mean = {"bytes": 1000.0 * bpp, "bpp": bpp, "psnr": psnr, "rd_cost": bpp + 1, "encode_seconds": 0.5}
        mean |= {"decode_seconds": 0.25, "stream_bytes": {"z": 10, "s1": 20, "s2": 30, "s3": 40}}
        mean |= {"ideal_bytes": {"z": 9.5, "s1": 19.5, "s2": 30, "s3": 40}}
        rates.append({"quality": str(quality), "mean": mean, "pictures": []})
    return {"kind": kind, "rates": rates}


def known_result():
    return {
        "pictures": {"count": 24, "names": [], "failed": [{}], "folder": "x"},
        "models": {"0": {"lambda": 0.0067}, "1": {"lambda": 0.025}},
        "curves": {
            "relatent": curve("ours", (0.2, 30.0), (0.4, 33.0)),
            "relatent, refined": curve("ours", (0.19, 30.1), (0.38, 33.1)),
            "JPEG": curve("classic", (0.3, 29.0), (0.6, 33.0), (2.0, 40.0)),
            "WebP": curve("classic", (0.5, 31.0)),
        },
        "bd_rate": [
            {"curve": "relatent", "against": "JPEG", "source": "measured", "percent": -33.3333, "psnr": [30.0, 33.0]},
            {"curve": "relatent", "against": "VTM|x", "source": "published", "percent": None, "reason": "no PSNR"},
        ],
    }


PUBLISHED = {"VTM": [(0.1, 30.0), (3.0, 45.0)], "JPEG": [(0.3, 29.5), (0.7, 33.0)], "one": [(0.5, 30.0)]}


def test_tables():
    lines = markdown_tables(known_result()).splitlines()
    assert lines[0].startswith("Means over 24 pictures; 1 left out. bpp: bits of the whole file per pixel;")
    assert "| relatent | 1 | 0.025 | 0.4000 | 33.00 | 1.4000 | 0.6000 | outside | 0.500 | 0.250 |" in lines
    assert "| relatent | 0 | 10 (10 %) | 20 (20 %) | 30 (30 %) | 40 (40 %) | 100 | 99 | +1.0 |" in lines
    assert "| relatent | JPEG | measured | -33.3 % | 30.0 to 33.0 dB |" in lines
    assert "| relatent | VTM\\|x | published | none |  |" in lines
    assert "| JPEG | 2 | 2.0000 | 40.00 | 0.500 | 0.250 |" in lines


def test_the_plot_has_every_curve_measured_ones_solid(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = {}

    def save(figure, path, **options):
        (axes,) = figure.axes
        drawn.update(
            lines=[(line.get_label(), line.get_linestyle(), list(line.get_xdata())) for line in axes.get_lines()],
            title=axes.get_title("left"),
            right=axes.get_xlim()[1],
            legend=[text.get_text() for text in figure.legends[0].get_texts()],
        )

    monkeypatch.setattr(Figure, "savefig", save)
    rd_plot(known_result(), PUBLISHED, tmp_path / "rd.png")
    solid, dashed = ([(n, x) for n, style, x in drawn["lines"] if style == kind] for kind in ("-", "--"))
    assert [name for name, _ in solid] == ["relatent", "relatent, refined", "JPEG", "WebP"]
    assert sorted(name for name, _ in dashed) == ["JPEG", "VTM", "one"]
    assert dict(solid)["JPEG"] == [0.3, 0.6, 2.0]
    assert drawn["title"] == "Rate and distortion, 24 pictures of x"
    assert drawn["right"] == 1.5
    assert set(drawn["legend"]) >= {"relatent", "VTM", "measured here", "published, 24 pictures of Kodak"}
