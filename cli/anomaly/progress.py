"""Progress of work on many volumes, on stderr: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def volumes_shown() -> Iterator[Callable[[int, int, int], None]]:
    """Yield what shows the numbers of volumes done, in all, and failed."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(unit="volume", file=sys.stderr) as bar:

            def move(done: int, total: int, failed: int) -> None:
                if bar.total is None:  # what an earlier attempt has finished is no part of the rate
                    bar.total, bar.initial = total, done + failed
                bar.n = done + failed
                bar.set_postfix_str(f"{failed} failed" if failed else "")

            yield move
        return
    last = time.monotonic()

    def show(done: int, total: int, failed: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{done + failed}/{total} volumes, {failed} failed", file=sys.stderr, flush=True)

    yield show
