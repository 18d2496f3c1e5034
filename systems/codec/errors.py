"""What can go wrong with a compressed file or a codec's folder, in one line each."""

from ...engine.errors import RelatentError


class BitstreamError(RelatentError):
    """A compressed file that is truncated, damaged, hostile, or written by another model or version."""


class CodecModelError(RelatentError):
    """A folder that should hold a codec's model is incomplete, damaged or of another configuration."""
