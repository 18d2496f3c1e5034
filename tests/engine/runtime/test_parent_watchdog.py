"""Processes end with the one that started them."""

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import multiprocessing, os, signal, sys, time
from relatent.engine.runtime.parent_watchdog import end_with_parent

def sibling():
    os.close(1), os.close(2)
    time.sleep(15)

def late(parent):
    while os.getppid() == parent:
        time.sleep(0.01)
    print("watching", flush=True)  # before: the watch may end the process at once
    end_with_parent()
    time.sleep(600)

context = multiprocessing.get_context("fork")
context.Process(target=late, args=(os.getpid(),)).start()
if sys.argv[1] == "sibling":
    context.Process(target=sibling).start()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="readers are forked on Linux only")
@pytest.mark.parametrize("beside", ["alone", "sibling"])
def test_an_orphan_ends_though_its_parent_was_killed_before_it_began_to_watch(beside):
    """Beside a sibling, forked later and so holding the pipe to the parent open, as a second reader of pictures does."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, beside], capture_output=True, text=True, timeout=12)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "watching\n"), done.stderr
