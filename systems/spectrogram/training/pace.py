"""When a training says how far it is."""

import time

SECONDS_BETWEEN_LINES = 10.0


class Pace:
    """Measures the seconds of a step between two lines."""

    def __init__(self, step: int) -> None:
        """step: where the training begins or goes on."""
        self.shown, self.since = time.monotonic(), step

    def due(self, step: int) -> float | None:
        """Seconds per step since the last line, where that is ten seconds ago; None otherwise."""
        elapsed, steps = time.monotonic() - self.shown, step - self.since
        if elapsed < SECONDS_BETWEEN_LINES:
            return None
        self.shown, self.since = time.monotonic(), step
        return elapsed / steps
