"""A process in which the kernel refuses every lock of a file with a chosen error, as some network file systems do."""

import ctypes
import platform
import subprocess
import sys

FLOCK, FCNTL, F_SETLK = 73, 72, 6  # of x86-64
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # of Berkeley Packet Filter programs
ALLOW, ERROR = 0x7FFF0000, 0x00050000
POSSIBLE = sys.platform == "linux" and platform.machine() == "x86_64"


class _Line(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.POINTER(_Line)))


def refuse_locks(number: int) -> None:
    """From now on, in this process and its children, flock and fcntl's record locks fail with this errno."""
    lines = [
        _Line(LOAD, 0, 0, 0),  # the system call
        _Line(EQUAL, 3, 0, FLOCK),
        _Line(EQUAL, 0, 3, FCNTL),
        _Line(LOAD, 0, 0, 24),  # its second argument
        _Line(EQUAL, 0, 1, F_SETLK),
        _Line(RETURN, 0, 0, ERROR | number),
        _Line(RETURN, 0, 0, ALLOW),
    ]
    program = _Program(len(lines), (_Line * len(lines))(*lines))
    system = ctypes.CDLL(None, use_errno=True)
    for arguments in ((38, 1, 0, 0, 0), (22, 2, ctypes.byref(program), 0, 0)):  # no new privileges; seccomp's filter
        if system.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def relatent_without_locks(number: int, *arguments) -> subprocess.CompletedProcess:
    """The command, where locks fail with this errno."""
    command = [sys.executable, __file__, str(number), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


if __name__ == "__main__":
    refuse_locks(int(sys.argv[1]))
    from relatent.cli.main import main

    sys.exit(main(sys.argv[2:]))
