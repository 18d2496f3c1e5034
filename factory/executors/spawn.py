"""Processes of ours that start from an interpreter of their own."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def spawn_without_main() -> Iterator[None]:
    """Processes that start here import no `__main__`, so that a script need not guard itself against running twice; and
    Ctrl-C, which goes to the whole group, does not reach them, even before they have begun: the parent decides.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    masks = hasattr(signal, "pthread_sigmask")  # inherited; not on Windows
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masks else set()
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
