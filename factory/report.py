"""The HTML report of a run: its metrics, loss curves and selected pictures, in one self-contained file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.errors import UsageError
from ..engine.inputs.views import PLAIN, VIEWS
from ..engine.records import Record
from ..engine.runtime.atomic import atomic_path
from ..exporters.hdf5.reading import open_file, read_rows
from ..exporters.summaries.figures import AMPLIFY, fall_figure, psnr_figure
from ..exporters.summaries.latents import latent_distance, latent_figure, latent_rows, latent_verdict
from ..exporters.summaries.pages import figure_uri, render_page, webp_uri
from ..exporters.summaries.statistics import statistic_rows
from .state.counters import summarise
from .state.run_folder import RunFolder

REPORT = "report.html"
GROUPS = (("Least gain", 0.0, 3), ("Around the median", 0.5, 2), ("Most gain", 1.0, 3))  # title, quantile, pictures
DETAIL = 384  # pixels: a larger picture is cropped to a square of this side
CURVES = 500  # pictures, evenly spread over the run, whose losses are summarised as quantiles
LISTED = 100  # maximum number of pictures, and of failures, in the tables


def write_report(out: str | Path) -> Path:
    """Write `OUT/report.html` of what is finished so far, and return its path.

    Raises `UsageError` if no picture is finished yet, and `DatasetError` if `out` holds no run.
    """
    folder = RunFolder.open(Path(out))
    files = folder.files()
    columns = _columns(files)
    if not len(columns["gain"]):
        raise UsageError(f"{out} has no finished picture yet: there is nothing to show")
    order = np.argsort(columns["gain"], kind="stable")
    rows = _Rows(files, columns["shard"])
    page = render_page(
        __package__,
        "report.html.j2",
        run=replace(folder.record, **summarise(folder)).to_json(),
        statistics=statistic_rows,
        views=[view for view in VIEWS.values() if view.name != PLAIN],
        gallery=[(title, [_card(rows.record(i)) for i in picks]) for title, picks in _groups(order)],
        amplify=AMPLIFY,
        psnr=figure_uri(psnr_figure, columns["initial"], columns["final"]),
        fall=figure_uri(fall_figure, rows.losses(_spread(len(order), CURVES)), folder.record.config["loss_function"]),
        latent_rows=latent_rows,
        latent_distance=latent_distance,
        latent_verdict=latent_verdict,
        latent_figure=lambda report: figure_uri(latent_figure, report),
        listed=[rows.facts(i) for i in order[:LISTED]],
        most=LISTED,
    )
    with atomic_path(folder.out / REPORT) as path:
        path.write_text(page, encoding="utf-8", errors="backslashreplace")
    return folder.out / REPORT


def _columns(files: Sequence[Path]) -> dict[str, np.ndarray]:
    """Return (N,) arrays: initial PSNR, final PSNR, gain in dB, and the index of the file that holds the picture."""
    found: dict[str, list[np.ndarray]] = {name: [np.zeros(0)] for name in ("initial", "final", "gain", "shard")}
    for number, path in enumerate(files):
        with open_file(path) as file:
            for name, metric in (("initial", "initial_psnr"), ("final", "final_psnr"), ("gain", "psnr_improvement")):
                found[name].append(file[f"metrics/{metric}"][:])
            found["shard"].append(np.full(len(file["image_name"]), number))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _groups(order: np.ndarray) -> list[tuple[str, list[int]]]:
    """Return pairs of a title and the indices of pictures, those with the least gain first; one group if there are few.

    order: indices of all pictures, sorted by gain.
    """
    if len(order) <= sum(count for _, _, count in GROUPS):
        return [("All pictures, the least gain first", [int(i) for i in order])]
    found = []
    for title, quantile, count in GROUPS:
        first = round(quantile * (len(order) - count))
        found.append((title, [int(i) for i in order[first : first + count]]))
    return found


def _spread(count: int, most: int) -> np.ndarray:
    """Return at most `most` indices of `range(count)`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


class _Rows:
    """Random access to single records by their index in the run, read from its shards."""

    def __init__(self, files: Sequence[Path], shard: np.ndarray):
        self.files, self.shard = files, shard.astype(int)
        self.starts = np.searchsorted(self.shard, np.arange(len(files)))

    def _find(self, index: int) -> tuple[Path, int]:
        """Return the shard file and the row within it of the picture `index`."""
        number = self.shard[index]
        return self.files[number], int(index - self.starts[number])

    def record(self, index: int) -> Record:
        """Return the record of the picture `index`."""
        path, row = self._find(index)
        with open_file(path) as file:
            return read_rows(file, slice(row, row + 1))[0]

    def facts(self, index: int) -> dict[str, Any]:
        """Return the values of the picture's row in the table."""
        path, row = self._find(index)
        with open_file(path) as file:
            text = {name: file[name].asstr()[row] for name in ("split", "image_name", "stop_reason")}
            metrics = {name: float(file[f"metrics/{name}"][row]) for name in ("initial_psnr", "final_psnr")}
            return text | metrics | {"iterations": int(file["iterations"][row])}

    def losses(self, indices: np.ndarray) -> list[np.ndarray]:
        """Return the losses of each picture, an array (T,) with T of its own.

        A non-finite loss, with which the iterations of a picture ended, is left out.
        """
        found = []
        for number in np.unique(self.shard[indices]):
            mine = indices[self.shard[indices] == number] - self.starts[number]
            with open_file(self.files[number]) as file:
                found += [row[np.isfinite(row)] for row in file["losses"][mine]]
        return found


def _card(record: Record) -> dict[str, Any]:
    """Return the template variables of one picture in the gallery."""
    top, left = _place(record)
    images = {name: pixels[top : top + DETAIL, left : left + DETAIL] for name, pixels in record.images.items()}
    return {
        "name": f"{record.split}/{record.name}",
        "metrics": record.metrics,
        "iterations": len(record.losses),
        "stop_reason": record.stop_reason,
        "cut": bool(images) and max(record.images["original"].shape) > DETAIL,
        "images": {name: webp_uri(pixels) for name, pixels in images.items()},
    }


def _place(record: Record) -> tuple[int, int]:
    """Return the top left corner of the square of side `DETAIL` in which the encoder's error is largest."""
    if not record.images:
        return 0, 0
    error = np.square(record.images["initial"].astype(np.float64) - record.images["original"]).sum(2)
    total = np.pad(error.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = (min(DETAIL, side) for side in error.shape)
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(top), int(left)
