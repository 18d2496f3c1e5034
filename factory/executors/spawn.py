"""Start of worker processes with a fresh interpreter."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def spawn_without_main() -> Iterator[None]:
    """Context manager in which started processes do not import `__main__` and do not receive SIGINT.

    A script therefore needs no guard against running twice. Ctrl-C, which goes to the whole process group, does not
    reach the processes, even before they have begun: the parent decides.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    masks = hasattr(signal, "pthread_sigmask")  # the signal mask is inherited; not available on Windows
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masks else set()
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
