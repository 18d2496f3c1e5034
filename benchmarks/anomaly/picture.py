"""Maps of several methods side by side, as a picture of the documentation.

    python -m relatent.benchmarks.anomaly.picture OUT.png "plain error=MAPS" "restoration=MAPS" [--rows 4]

MAPS: runs on the same volumes, by `relatent anomaly map`, `restore` or `detect`. A row for each of the first abnormal volumes, a sagittal slice
through the middle of the mask; a last one for a normal volume. Each method's colours end at the 99.9th percentile of its own maps.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...systems.anomaly.data.volume import ABNORMAL, NORMAL
from ...systems.anomaly.maps.reader import MapReader
from ...systems.anomaly.report.colours import Scales, grey, overlay
from ...systems.anomaly.report.slices import slice_of
from ..results import run_main

PLANE, AXIS = "sagittal", 2


def draw(readers: dict[str, MapReader], rows: int, out: Path) -> None:
    """Write the picture. readers: by the heading of their column."""
    from matplotlib.figure import Figure

    first = next(iter(readers.values()))
    chosen = [int(i) for i in np.flatnonzero(first.labels == ABNORMAL)[: rows - 1]]
    chosen += [int(np.flatnonzero(first.labels == NORMAL)[0])]
    white = max(float(np.percentile(first.volume(i), 99.9)) for i in chosen)
    scales = {
        name: Scales(white, max(float(np.percentile(reader.error(i), 99.9)) for i in chosen))
        for name, reader in readers.items()
    }
    headings = ["volume", "abnormal voxels", *readers]
    figure = Figure((1.7 * len(headings), 1.75 * len(chosen)), dpi=110, layout="constrained")
    axes = figure.subplots(len(chosen), len(headings), squeeze=False)
    for row, i in zip(axes, chosen, strict=True):
        mask = first.mask(i)
        place = first.side // 2 if mask is None or not mask.any() else int(np.argwhere(mask)[:, AXIS].mean())
        volume = slice_of(first.volume(i), PLANE, place)
        truth = np.zeros_like(volume) if mask is None else slice_of(mask, PLANE, place).astype(np.float32)
        plain = Scales(white, 1.0)
        pictures = [grey(volume, plain), overlay(volume, 0.7 * truth, plain)]
        pictures += [
            overlay(volume, slice_of(reader.error(i), PLANE, place), scales[name]) for name, reader in readers.items()
        ]
        for one, picture in zip(row, pictures, strict=True):
            one.imshow(picture, interpolation="nearest")
            one.set_axis_off()
    for one, heading in zip(axes[0], headings, strict=True):
        one.set_title(heading, fontsize=9)
    figure.suptitle("synthetic vertebrae, sagittal slices; the last row is a normal one", fontsize=9)
    figure.savefig(out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT.png")
    parser.add_argument("maps", nargs="+", metavar="NAME=MAPS")
    parser.add_argument("--rows", type=int, default=4, metavar="N", help="volumes (default: 4)")
    options = parser.parse_args(arguments)
    readers = {}
    for one in options.maps:
        name, _, folder = one.rpartition("=")
        readers[name] = MapReader(folder)
    if len({tuple(reader.names) for reader in readers.values()}) != 1:
        parser.error("the runs are on different volumes")
    draw(readers, options.rows, options.out)


if __name__ == "__main__":
    run_main(main)
