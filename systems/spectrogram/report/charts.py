"""Lines and confusion matrices as coordinates of SVG."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

WIDTH, HEIGHT = 320.0, 170.0
MOST_WRITTEN = 12  # users of a confusion matrix whose cells have numbers
LEFT, BOTTOM, EDGE = 34.0, 18.0, 6.0  # room for the numbers of the axes


class Chart(NamedTuple):
    """lines: `points` of a polyline by name. x_ticks, y_ticks: places in the drawing, and their texts."""

    title: str
    lines: dict[str, str]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def chart(title: str, lines: Mapping[str, tuple[ArrayLike, ArrayLike]], log_x: bool = False) -> Chart:
    """lines: x and y by name, all finite; log_x: for x above 0."""
    x = np.concatenate([np.asarray(one[0], np.float64) for one in lines.values()])
    y = np.concatenate([np.asarray(one[1], np.float64) for one in lines.values()])
    across = _axis(x, LEFT, WIDTH - EDGE, log_x)
    up = _axis(y, HEIGHT - BOTTOM, EDGE, False)
    points = {
        name: " ".join(f"{across.place(a):.1f},{up.place(b):.1f}" for a, b in zip(*map(np.asarray, xy), strict=True))
        for name, xy in lines.items()
    }
    return Chart(title, points, across.ticks(5), up.ticks(4))


class Axis(NamedTuple):
    low: float
    high: float
    begin: float
    end: float
    log: bool

    def place(self, value: float) -> float:
        value, low, high = (float(np.log(v)) if self.log else v for v in (value, self.low, self.high))
        return self.begin + (self.end - self.begin) * (value - low) / (high - low)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """At round numbers, about `count` of them; of a logarithmic axis at powers of 2."""
        if self.log:
            powers = range(int(np.ceil(np.log2(self.low))), int(np.floor(np.log2(self.high))) + 1)
            return [(self.place(2.0**power), f"{2.0**power:g}") for power in powers]
        step = 10.0 ** np.floor(np.log10((self.high - self.low) / count))
        step *= min((1, 2, 5, 10), key=lambda factor: abs((self.high - self.low) / (factor * step) - count))
        values = np.arange(np.ceil(self.low / step), np.floor(self.high / step) + 1) * step
        return [(self.place(float(value)), f"{value:g}" if abs(value) > step / 2 else "0") for value in values.round(9)]


def _axis(values: np.ndarray, begin: float, end: float, log: bool) -> Axis:
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9:
        low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
    return Axis(low, high, begin, end, log)


class Confusion(NamedTuple):
    """cells: row, column and share of the row, for shares above 0; rows are users, columns whom they were taken for. ticks: users from 0 on whose
    number is shown. written: there is room for the shares as text."""

    title: str
    users: int
    cells: list[tuple[int, int, float]]
    ticks: list[int]
    written: bool


def confusion(title: str, counts: Sequence[Sequence[int]]) -> Confusion:
    """From counts of pictures."""
    table = np.asarray(counts, np.float64)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    cells = [(int(r), int(c), float(shares[r, c])) for r, c in np.argwhere(shares > 0)]
    few = len(table) <= MOST_WRITTEN
    return Confusion(title, len(table), cells, list(range(0, len(table), 1 if few else 5)), few)
