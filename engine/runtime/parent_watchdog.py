"""Watchdog that ends a child process when its parent process ends for any reason."""

import multiprocessing
import os
import threading

WATCH_SECONDS = 0.5


def end_with_parent() -> None:
    """Start the watchdog thread. To be called in a process that `multiprocessing` started, which without its parent
    would otherwise wait forever.
    """
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    # The sentinel pipe of the parent reports its end at once, unless another process forked from the parent holds the
    # pipe open too. The process id is the one that the parent passed on: getppid() alone may already be that of the
    # process that adopts orphans.
    while parent.is_alive() and (os.name == "nt" or os.getppid() == parent.pid):
        parent.join(WATCH_SECONDS)
    os._exit(1)
