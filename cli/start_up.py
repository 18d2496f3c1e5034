"""Importing torch at the start of a command."""

import gc
import os
import sys


def start_torch() -> None:
    """Import torch, and set its number of threads.

    In a new process, exempt its objects from garbage collection: they are several hundred thousand, and to collect among
    them takes 0.2 s at start-up, and as long again when the process ends.
    """
    new = "torch" not in sys.modules
    # keep the cache of compiled code: torch's own default is a temporary folder, Triton's is in a home that may be none
    from ..engine.calibration.cache import cache_folder

    for name, folder in (("TORCHINDUCTOR_CACHE_DIR", "inductor"), ("TRITON_CACHE_DIR", "triton")):
        if name not in os.environ:
            os.environ[name] = str(cache_folder(folder))
    if new:
        gc.disable()
    from ..engine.runtime.device import limit_threads

    if new:
        gc.freeze()
        gc.enable()
        gc.set_threshold(50_000, 20, 50)
    limit_threads()
