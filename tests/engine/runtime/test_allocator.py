"""Freed memory is kept where it was asked for, and settings of the user are left alone."""

import subprocess
import sys

import pytest
from relatent.engine.runtime import allocator
from relatent.engine.runtime.allocator import keep_freed_memory

# Page faults of the last twenty of forty blocks of 64 MiB, one after the other, each freed before the next.
FAULTS = """
import resource
import torch
from relatent.engine.runtime.allocator import keep_freed_memory
print({asked} and keep_freed_memory())
for count in range(40):
    if count == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _printed(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def _faults(asked):
    kept, faults = _printed(FAULTS.format(asked=asked))
    return kept == "True", int(faults)


def test_freed_memory_is_used_again():
    kept, faults = _faults(True)
    if not kept:
        pytest.skip("not with glibc's allocator, or its variables are set")
    assert faults < 0.5 * _faults(False)[1], "some may be placed anew, not all"


# MiB that this process holds after 512 MiB were freed, then after a limit far above that, and after one below it.
HELD = """
from pathlib import Path
import torch
from relatent.engine.runtime.allocator import keep_freed_memory, limit_freed_memory

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

print(keep_freed_memory())
blocks = [torch.ones(2**22) for _ in range(32)]
small = [torch.ones(1) for _ in range(32)]
del blocks
print(held())
for most in (2**40, 2**24):
    limit_freed_memory(most)
    print(held())
"""


def test_what_is_kept_has_a_limit():
    kept, freed, far, near = _printed(HELD)
    if kept == "False":
        pytest.skip("not with glibc's allocator, or its variables are set")
    assert abs(int(far) - int(freed)) < 32
    assert int(near) < int(freed) - 400


def test_settings_of_the_user_are_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("the C library was asked"))
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "100000")
    assert not keep_freed_memory()


def test_other_systems_have_no_such_setting(monkeypatch):
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert not keep_freed_memory()
