"""What can go wrong with spectrograms, in one line each."""

from ....engine.errors import RelatentError


class SpectrogramError(RelatentError):
    """A folder of spectrograms, or one of them, cannot be used as it is."""
