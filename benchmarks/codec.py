"""The codec on photographs: its rates beside JPEG, JPEG 2000 and WebP, and what refinement of the latents gains.

    python -m relatent.benchmarks.codec KODAK [--references FOLDER] [--steps 200] [--refined 12] [--qualities 1 2 3]

KODAK: a folder of photographs, such as Kodak's 24. FOLDER: published curves, drawn dashed. Writes
benchmarks/results/codec-*.json and codec_refinement-*.json, the plots of docs/codec.md and README, and the tables of docs/codec.md.
"""

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..exporters.summaries.markdown import markdown_table
from ..systems.codec.bitstream.image_codec import ImageCodec
from ..systems.codec.bundled import load_codec, qualities
from ..systems.codec.evaluation.evaluate import OURS, points_of
from ..systems.codec.evaluation.markdown_tables import bpp_at
from ..systems.codec.evaluation.pictures import find_pictures, read_picture
from ..systems.codec.evaluation.run import run_evaluation
from ..systems.codec.refinement.config import RefinementConfig
from ..systems.codec.refinement.refine import Refined, refine
from .results import command_line, replace_table, run_main, write_result

DOCS = Path(__file__).parents[1] / "docs"


def measure_refinement(codec: ImageCodec, pictures: Mapping[str, Path], steps: int) -> dict[str, Any]:
    """Refine each picture by itself. Returns a row for each, and the means of the changes."""
    config = RefinementConfig(steps=steps)
    rows = {}
    for name, path in pictures.items():
        image = read_picture(path)
        (result,) = refine(codec, [image], config)
        if not torch.equal(codec.decompress(result.encoded.data), result.encoded.reconstruction):
            raise AssertionError(f"{name}: the decoder returns another picture than the encoder")
        rows[name] = _row(result)
        print(f"{name}: cost {rows[name]['change_percent']:+.1f} %, {result.seconds:.0f} s", flush=True)
    changes = [row["change_percent"] for row in rows.values()]
    return {
        "lambda": codec.lmbda,
        "steps": steps,
        "pictures": rows,
        "change_percent": statistics.fmean(changes),
        "least_percent": max(changes),
        "most_percent": min(changes),
        "bytes_percent": statistics.fmean(row["bytes_percent"] for row in rows.values()),
        "gain_db": statistics.fmean(row["gain_db"] for row in rows.values()),
        "seconds": statistics.fmean(row["seconds"] for row in rows.values()),
    }


def _row(result: Refined) -> dict[str, Any]:
    before, after = result.before, result.after
    return {
        "before": asdict(before),
        "after": asdict(after),
        "change_percent": 100 * (after.rd_cost / before.rd_cost - 1),
        "bytes_percent": 100 * (after.bytes / before.bytes - 1),
        "gain_db": after.psnr - before.psnr,
        "seconds": result.seconds,
        "kept": result.kept,
    }


def refinement_table(refined: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each quality; costs are λ · 255² · MSE + bpp of real files."""
    percents = ("change_percent", "least_percent", "most_percent", "bytes_percent")
    rows = []
    for quality, r in refined.items():
        changes = (f"{r[name]:+.1f} %" for name in percents)
        rows.append(
            [quality, len(r["pictures"]), r["steps"], *changes, f"{r['gain_db']:+.2f} dB", f"{r['seconds']:.0f}"]
        )
    heading = ["quality", "pictures", "steps", "cost, mean", "least", "most", "bytes", "PSNR", "s / picture"]
    return markdown_table(heading, rows)


def summary_table(evaluation: Mapping[str, Any], refined: Mapping[str, Mapping[str, Any]]) -> str:
    """README's: a row for each bundled rate."""
    jpeg, rows = points_of(evaluation["curves"]["JPEG"]), []
    for rate in evaluation["curves"][OURS]["rates"]:
        bpp, psnr, r = rate["mean"]["bpp"], rate["mean"]["psnr"], refined[rate["quality"]]
        change = f"{r['change_percent']:+.1f} % in {r['steps']} steps, {r['seconds']:.0f} s"
        rows.append([rate["quality"], f"{bpp:.4f}", f"{psnr:.2f} dB", bpp_at(jpeg, psnr), change])
    return markdown_table(["quality", "bits per pixel", "PSNR", "JPEG needs", "refinement: cost, s / picture"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="KODAK")
    parser.add_argument("--references", type=Path, metavar="FOLDER")
    parser.add_argument("--steps", type=int, default=200, metavar="N", help="of refinement (default: 200)")
    parser.add_argument(
        "--refined", type=int, default=12, metavar="N", help="pictures to refine (default: 12; 0: none)"
    )
    parser.add_argument("--qualities", type=int, nargs="+", metavar="N", help="to refine with (default: all)")
    parser.add_argument("--no-evaluation", action="store_true", help="refinement alone")
    options = parser.parse_args(arguments)
    device, command, page = torch.device("cpu"), command_line("codec", arguments), DOCS / "codec.md"
    if not options.no_evaluation:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            codecs = {str(quality): load_codec(quality) for quality in qualities()}
            content = run_evaluation(options.folder, out, codecs, options.references, progress=print)
            shutil.copy(out / "rd.png", DOCS / "images" / "codec_rd.png")
            shutil.copy(out / "spectrum_2.png", DOCS / "images" / "codec_spectrum.png")
            replace_table("codec_rates", (out / "table.md").read_text(encoding="utf-8").strip(), page)
        print(write_result("codec", device, command, content))
    if options.refined:
        pictures = find_pictures(options.folder, options.refined)
        refined = {}
        for quality in options.qualities or qualities():
            print(f"quality {quality}", flush=True)
            refined[str(quality)] = measure_refinement(load_codec(quality), pictures, options.steps)
        replace_table("codec_refinement", refinement_table(refined), page)
        print(write_result("codec_refinement", device, command, {"refined": refined}))
        if not options.no_evaluation and not options.qualities:
            replace_table("codec", summary_table(content, refined))


if __name__ == "__main__":
    run_main(main)
