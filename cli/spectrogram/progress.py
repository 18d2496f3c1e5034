"""Progress of work in steps, on stderr: a bar on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 10.0


def is_main_process() -> bool:
    """Whether this is the process that prints, of those that a launcher has started; true without a launcher."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def steps_shown(unit: str) -> Iterator[tuple[Callable[[str], None], Callable[..., None]]]:
    """Yield what shows a line, and what shows the number of steps done, in all, and the loss where there is one.

    Of several processes that a launcher has started the main one alone shows anything.
    """
    if not is_main_process():
        yield lambda line: None, lambda *_: None
        return
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(unit=unit, file=sys.stderr) as bar:

            def move(done: int, total: int, loss: float | None = None) -> None:
                if bar.total is None:  # what an earlier attempt has finished is no part of the rate
                    bar.total, bar.initial = total, done - 1
                bar.n = done
                bar.set_postfix_str("" if loss is None else f"loss {loss:.4f}")

            yield lambda line: tqdm.write(line, file=sys.stderr), move
        return
    last = time.monotonic()

    def show(done: int, total: int, loss: float | None = None) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            of_loss = "" if loss is None else f", loss {loss:.4f}"
            print(f"{done}/{total} {unit}s{of_loss}", file=sys.stderr, flush=True)

    yield lambda line: print(line, file=sys.stderr, flush=True), show
