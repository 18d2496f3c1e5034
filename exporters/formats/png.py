"""PNG: a folder for visual inspection, with every picture, a comparison, and the statistics of the run."""

from typing import Any

import numpy as np
from PIL import Image

from ...engine.inputs.views import VIEWS
from ...engine.records import Outcome, Record
from ..base.folder import FolderExporter
from ..base.sample_metadata import outcome_metadata
from ..summaries.figures import comparison, difference, loss_curves, overview
from ..summaries.latents import latent_distance, latent_figure, latent_rows, latent_verdict
from ..summaries.statistics import metric_statistics

OVERVIEW_ROWS = 8  # pictures shown in overview.png, taken from the start of the run
CURVES = 64  # maximum number of pictures drawn in loss_curves.png


class PNGExporter(FolderExporter):
    """Write a folder of PNG images per picture, its metrics, and a summary of the run.

    The files of a picture are `<split>/<image>/{original,initial,optimized,difference,comparison}.png` and
    `metrics.json`.
    """

    name = "png"
    needs_images = True

    def open(self) -> None:
        super().open()
        self.metrics: list[dict[str, float]] = []
        self.view_metrics: dict[str, list[dict[str, float]]] = {}  # metrics by view, without the plain view
        self.names: list[str] = []
        self.shown: list[Record] = []
        self.curves: list[tuple[str, list[float]]] = []

    def add(self, record: Record) -> None:
        self._write_one(record)
        self.metrics.append(record.metrics)
        for view, outcome in record.all_views()[1:]:
            self.view_metrics.setdefault(view.name, []).append(outcome.metrics)
        self.names.append(f"{record.split}/{record.name}")
        if len(self.curves) < CURVES:
            self.curves.append((record.name, record.losses))
        if len(self.shown) < OVERVIEW_ROWS:
            self.shown.append(record)

    def _write_one(self, record: Record) -> None:
        """Write the images and the metrics of one picture."""
        folder = f"{record.split}/{record.name}"
        pictures = {name: Image.fromarray(pixels) for name, pixels in record.images.items()}
        pictures["difference"] = Image.fromarray(difference(record.images["original"], record.images["optimized"]))
        pictures["comparison"] = comparison(record)
        for name, picture in pictures.items():
            with self.new_file(f"{folder}/{name}.png") as path:
                picture.save(path)
        facts = {
            **_facts(record),
            "source_path": record.source_path,
            "original_size": list(record.original_size),
            "conversions": list(record.conversions),
        }
        facts |= {view.name: _facts(outcome) for view, outcome in record.all_views()[1:]}
        self.write_json(f"{folder}/metrics.json", facts)

    def finish(self) -> None:
        self.write_json("statistics.json", metric_statistics(self.metrics))
        with self.new_file("overview.png") as path:
            overview(self.shown).save(path)
        with self.new_file("loss_curves.png") as path:
            loss_curves(self.curves, self.header.config["loss_function"], path)
        if latent_rows(self.header.latents):
            with self.new_file("latents.png") as path:
                latent_figure(self.header.latents, path)

    def readme(self) -> str:
        statistics = metric_statistics(self.metrics)
        rows = "\n".join(
            f"| {name} | {value['mean']:.3f} | {value['std']:.3f} | {value['min']:.3f} | {value['max']:.3f} |"
            for name, value in statistics.items()
        )
        worst = self.names[int(np.argmin([row["psnr_improvement"] for row in self.metrics]))]
        text = README.format(
            count=len(self.names), vae=self.header.vae["name"], created=self.header.created, rows=rows, worst=worst
        )
        for name, metrics in self.view_metrics.items():
            gain = metric_statistics(metrics)["psnr_improvement"]["mean"]
            text += README_VIEW.format(view=VIEWS[name], gain=gain)
        return text + (self._latents() if latent_rows(self.header.latents) else "")

    def _latents(self) -> str:
        """Return the section of the README on the latents."""
        rows = "\n".join(f"| {' | '.join(row)} |" for row in latent_rows(self.header.latents))
        return LATENTS.format(
            rows=rows, distance=latent_distance(self.header.latents), verdict=latent_verdict(self.header.latents)
        )


def _facts(outcome: Outcome) -> dict[str, Any]:
    """Return metrics and other metadata of an outcome in one flat dictionary."""
    found = outcome_metadata(outcome)
    return found.pop("metrics") | found


README = """# {count} pictures, latents optimised for the decoder of `{vae}`

Made by relatent on {created}.

![original, encoder's reconstruction, optimised reconstruction, error before and after](overview.png)

| metric | mean | deviation | least | most |
| --- | --- | --- | --- | --- |
{rows}

PSNR in dB, SSIM and the reduction of the loss as fractions. The smallest gain is that of `{worst}`.

- `<split>/<image>/original.png`, `initial.png` (the encoder's latent decoded), `optimized.png` (the optimised one)
- `difference.png`: the absolute error of the optimised picture, five times amplified; `comparison.png`: all side by side
- `metrics.json` for each picture, `statistics.json` for all, `loss_curves.png`: the loss over the iterations
"""

README_VIEW = """
Each picture was also optimised {view.phrase}, as a target of its own, with a mean gain of {gain:.3f} dB: those
metrics are under `{view.name}` in `metrics.json`, the latents in the other formats. The pictures here are un{view.label}.
"""

LATENTS = """
## The latents

{verdict}

| | encoder | optimised |
| --- | --- | --- |
{rows}

σ is the spread of a picture's initial latents; its optimised ones {distance}.
High frequencies: the share of power beyond half of Nyquist. Lost: of the PSNR, when a latent is stored in fewer bits or
disturbed. With noise: against the same latent decoded without. Half way to the nearest other picture's latent: the decoded
midpoint against the mean of the two decoded pictures. All in dB, of the run's first pictures. `run.json` has the rest.

![spread per channel, spectra, PSNR lost to rounding and to noise](latents.png)
"""
