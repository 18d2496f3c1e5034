"""What runs in the processes that the tests called test_kills.py kill."""

import os
import resource
import signal
import sys
import time

from relatent import OptimizationConfig, optimize_directory
from relatent.cli.main import main
from relatent.engine.runtime import atomic
from relatent.exporters.hdf5.exporter import HDF5Exporter
from relatent.factory.state import ledger
from relatent.factory.state.lock import RunLock

LIMIT = 30_000  # bytes of a file: more than the ledger, less than a shard
CONFIG = OptimizationConfig(iterations=4, precision="fp32")


def work(source, out, vae, moment=None, add=False):
    """The whole run; `moment`: (where, how often it has come there) at which the process kills itself."""
    if moment is not None:
        arm(*moment)
    optimize_directory(
        source, out, str(vae), config=CONFIG, size=32, shard_size=2, device="cpu", formats=["hdf5", "pt"], add=add
    )


def arm(where, times):
    """Let this process kill itself at a moment: where, when it has come there so often."""
    left = [times]

    def strike():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if where == "disk full":
        created = HDF5Exporter._create

        def create(self, file, first):
            left[0] -= 1
            if left[0] == 0:
                resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))  # a real error of the system's
            return created(self, file, first)

        HDF5Exporter._create = create
    rename, append = os.replace, ledger.Ledger.append

    def replace(source, target):
        wanted = str(target).endswith("plan.jsonl" if where in ("plan", "after the plan") else ".h5")
        if wanted and where in ("between write and rename", "plan"):
            strike()
        rename(source, target)
        if wanted and where in ("between rename and ledger", "after the plan"):
            strike()

    def torn(self, lines):
        if where == "within the ledger's line":
            with self.path.open("ab") as file:
                file.write(b'{"kind": "shard", "num')
            strike()
            os.truncate(self.path, self.path.stat().st_size - len(b'{"kind": "shard", "num'))
        append(self, lines)

    atomic.os.replace = replace
    ledger.Ledger.append = torn


def command_line(arguments, moment, errors):
    """The `relatent` command in this process, which ends with its exit status; its stderr goes to a file."""
    arm(*moment)
    with errors.open("w") as sys.stderr:
        status = main(arguments)
    os._exit(status)


def hold(out, ready):
    """Hold the lock of that folder until killed."""
    with RunLock(out):
        ready.set()
        time.sleep(600)
