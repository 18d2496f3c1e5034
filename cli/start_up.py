"""Importing torch at the start of a command."""

import gc
import sys


def start_torch() -> None:
    """Import torch, and set its number of threads.

    In a new process, exempt its objects from garbage collection: they are several hundred thousand, and to collect among
    them takes 0.2 s at start-up, and as long again when the process ends.
    """
    new = "torch" not in sys.modules
    if new:
        gc.disable()
    from ..engine.runtime.device import limit_threads

    if new:
        gc.freeze()
        gc.enable()
        gc.set_threshold(50_000, 20, 50)
    limit_threads()
