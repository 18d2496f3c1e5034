"""The packages of the extra `spectrogram`."""

from collections.abc import Iterator
from contextlib import contextmanager

from ...engine.errors import UsageError


@contextmanager
def needs_packages() -> Iterator[None]:
    """Raise `UsageError` with the line that installs them where a package of the extra `spectrogram` is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("relatent"):
            raise
        raise UsageError(f"{error.name} is missing; install it with: pip install 'relatent[spectrogram]'") from None
