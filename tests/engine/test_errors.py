"""What a line in a log says of an error."""

import pytest
from relatent.engine.errors import first_line

OF_THE_COMPILER = """SubprocException: An exception occurred in a subprocess:

Traceback (most recent call last):
  File "compiler.py", line 80, in make_ir
AssertionError('z is of type fp32, but the then block redefines it as fp64')


Set TORCHDYNAMO_VERBOSE=1 for the internal stack trace.
"""


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("\nout of memory\ntried to allocate 2 GiB", "out of memory"),
        ("", "RuntimeError"),
        ("an option is wrong:", "an option is wrong:"),
        (OF_THE_COMPILER, "SubprocException: An exception occurred in a subprocess: "
         "AssertionError('z is of type fp32, but the then block redefines it as fp64')"),
    ],
)  # fmt: skip
def test_first_line(message, line):
    assert first_line(RuntimeError(message)) == line
