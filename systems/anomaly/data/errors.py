"""What can go wrong with volumes and folds, in one line each."""

from ....engine.errors import RelatentError


class VolumeError(RelatentError):
    """A volume's file cannot be used. A run lists it as failed and goes on."""


class FoldsError(RelatentError):
    """A folds file is damaged, or training by it would see patients or volumes that it must not see."""
