"""What can go wrong, in words a user can act on. Each message names what was expected, what was found, the remedy."""


class RelatentError(Exception):
    """Base of every error this package raises on purpose; the command line prints it without a traceback."""


class UsageError(RelatentError, ValueError):
    """An option, a configuration or a tensor that does not fit. Raised before any work; exit status 2."""


class WeightsUnavailableError(RelatentError):
    """The weights of a known autoencoder are neither on this machine nor to be downloaded; exit status 2."""


class ImageError(RelatentError):
    """One picture cannot be used. The run lists it as failed and goes on."""


class DatasetError(RelatentError):
    """A file that should hold a dataset is damaged, foreign or hostile."""


class RunStoppedError(RelatentError):
    """A run cannot or must not go on; what was finished is kept; exit status 1."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not empty; its kind where there is none.

    Where it ends with a colon, as it does when a process that compiles for torch fails, the last line follows, which is
    the reason. torch's advice how to see more is not part of the message.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Set TORCH")]
    if not lines:
        return type(error).__name__
    return f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]
