"""The entry point of the `relatent` command.

Progress goes to stderr, results to stdout; torch is imported only where it is used.
"""

import signal
import sys
from collections.abc import Sequence

from .exit_status import INTERRUPTED, SOME_FAILED, USAGE
from .parser import build_parser
from .text import never_fail_for_an_encoding, stopped_line, what_is_kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, and return its exit status. Errors meant for the user are printed as one line on stderr."""
    never_fail_for_an_encoding()
    options = build_parser().parse_args(arguments)
    out, resumes = getattr(options, "out", None), getattr(options, "resumes", True)
    from ..engine.errors import RelatentError, RunStoppedError
    from ..engine.runtime.allocator import keep_freed_memory

    keep_freed_memory()

    # SIGTERM interrupts a run as Ctrl-C does: finished work is written
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return options.run(options)
    except RunStoppedError as error:
        return _fail(stopped_line(str(error), out), SOME_FAILED)
    except RelatentError as error:
        return _fail(str(error), USAGE)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of stdout has closed it, and Python would report that at exit
        return SOME_FAILED
    except OSError as error:
        return _fail(f"{error}; {what_is_kept(out, resumes)}", SOME_FAILED)
    except KeyboardInterrupt:
        return _fail(f"interrupted; {what_is_kept(out, resumes)}", INTERRUPTED)


def _fail(message: str, status: int) -> int:
    """Print an error message on stderr, and return the exit status."""
    print(f"relatent: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
