"""The exit statuses of the `relatent` command."""

DONE = 0  # everything requested is done
SOME_FAILED = 1  # some pictures failed, or the run stopped; finished work is kept
USAGE = 2  # a usage or configuration error, before any work; argparse's own status
INTERRUPTED = 130  # SIGINT or SIGTERM; the run can be resumed
