"""Progress on stderr: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType


class Progress:
    """Context manager of a progress bar that counts pictures and parts of pictures, and shows the mean gain in dB."""

    SECONDS_BETWEEN_LINES = 10.0
    SECONDS_BEFORE_A_STEP_SHOWS = 2.0  # where there is no terminal: a shorter measurement is not worth a line

    def __init__(self, total: int, enabled: bool = True):
        self.total, self.enabled = total, enabled
        self.done, self.gains = 0, 0.0
        self.finished, self.failed, self.skipped = 0, 0, 0
        self._bar = None
        self._started = self._last_line = self._step_started = time.monotonic()
        self._step_shown = False

    def __enter__(self) -> "Progress":
        if self.enabled and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.total,
                unit="image",
                file=sys.stderr,
                bar_format="{percentage:3.0f}% |{bar}| {n:.1f}/{total} images, {rate_fmt}, {remaining} left{postfix}",
            )
        return self

    def skip(self, images: int) -> None:
        """Set the number of pictures that were finished before this attempt."""
        self.skipped = self.done = images
        if self._bar is not None:
            self._bar.initial = images  # excluded from the rate
            self._show(float(images))

    def within(self, images: float) -> None:
        """Update the progress within the current batch, in units of whole pictures."""
        self._show(self.done + images)

    def add(self, gains: list[float], failed: int) -> None:
        """Record a finished batch: the gains of its pictures in dB, and the number of pictures that failed."""
        self.finished += len(gains)
        self.failed += failed
        self.gains += sum(gains)
        self.done = self.skipped + self.finished + self.failed
        if self._bar is not None:
            self._bar.set_postfix_str(self._gain(), refresh=False)
        self._show(float(self.done))

    def one_time(self, what: str, fraction: float) -> None:
        """Show a measurement that is made once per decoder: on a terminal as it goes, else as a line where it takes long.

        what: what is measured. fraction: how much of it is done, in [0, 1].
        """
        if fraction == 0.0:
            self._step_started, self._step_shown = time.monotonic(), False
        if self._bar is not None:
            text = "" if fraction >= 1.0 else f"{what}, once: {100 * fraction:.0f} %"
            self._bar.set_postfix_str(text or self._gain())
        elif self.enabled and not self._step_shown and fraction < 1.0:
            self._step_shown = time.monotonic() - self._step_started > self.SECONDS_BEFORE_A_STEP_SHOWS
            if self._step_shown:
                print(f"{what}, once: {100 * fraction:.0f} %", file=sys.stderr, flush=True)

    def _gain(self) -> str:
        """Return the mean gain and the number of failures as text."""
        failures = f", {self.failed} failed" if self.failed else ""
        return f"{self.gains / self.finished:+.2f} dB{failures}" if self.finished else f"no gain known yet{failures}"

    def _show(self, position: float) -> None:
        """Show the position, in pictures, on the bar or, at most every ten seconds, as a line."""
        if self._bar is not None:
            self._bar.n = position
            self._bar.refresh()
        elif self.enabled:
            now = time.monotonic()
            if now - self._last_line >= self.SECONDS_BETWEEN_LINES or self.done >= self.total:
                self._last_line = now
                rate = (position - self.skipped) / max(now - self._started, 1e-9)
                left = (self.total - position) / rate if rate else 0.0
                print(
                    f"{position:.1f}/{self.total} images, {rate:.2f} images/s, {self._gain()}, {left:.0f} s left",
                    file=sys.stderr,
                    flush=True,
                )

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
