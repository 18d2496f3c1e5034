"""A process of ours ends with the one that started it, by whatever that ends."""

import multiprocessing
import os
import threading

WATCH_SECONDS = 0.5


def end_with_parent() -> None:
    """To be called in a process that `multiprocessing` started; watches from a thread. Left alone it would wait forever."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    # The pipe that joins them tells at once, unless a process forked from the parent holds it open too. The number is the
    # one that the parent gave: getppid() alone may already name whoever takes orphans in.
    while parent.is_alive() and (os.name == "nt" or os.getppid() == parent.pid):
        parent.join(WATCH_SECONDS)
    os._exit(1)
