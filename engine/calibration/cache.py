"""The cache on disk of what is measured once per decoder."""

import logging
import os
import stat
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from ..runtime.atomic import atomic_path

logger = logging.getLogger(__name__)


def cache_folder(name: str) -> Path:
    """Return `$XDG_CACHE_HOME/relatent/<name>`, or the same under `~/.cache`; the folder need not exist.

    Where that cannot be written to, as in many containers, it is in a temporary folder, which is said once.
    """
    return _root(os.environ.get("XDG_CACHE_HOME"), os.environ.get("HOME")) / name


@cache
def _root(cache_home: str | None, home: str | None) -> Path:
    """Return the folder of all caches, for these values of the environment."""
    try:
        wanted = Path(cache_home or Path.home() / ".cache") / "relatent"
        reason = _why_not_writable(wanted)
    except RuntimeError as error:  # no home at all, not even in the system's list of users
        wanted, reason = Path("~/.cache/relatent"), str(error)
    if reason is None:
        return wanted
    temporary = _temporary_root()
    logger.warning(
        "%s cannot be written to (%s): what is measured once per decoder is kept in %s; set XDG_CACHE_HOME to keep it "
        "elsewhere", wanted, reason, temporary,
    )  # fmt: skip
    return temporary


def _why_not_writable(folder: Path) -> str | None:
    """Make the folder, and return why nothing can be written to it; None where it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__


def _temporary_root() -> Path:
    """Return a temporary folder that belongs to this user alone: compiled code is run from it."""
    if hasattr(os, "getuid"):
        found = Path(tempfile.gettempdir()) / f"relatent-{os.geteuid()}"
        try:
            found.mkdir(mode=0o700, exist_ok=True)
            facts = found.lstat()
            if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & 0o022:
                return found
        except OSError:
            pass  # somebody else's file of that name: a new folder will do
    return Path(tempfile.mkdtemp(prefix="relatent-"))


def read_tensors(path: Path) -> Any:
    """Return what `write_tensors` stored, on the CPU; None where there is no file, or where it is damaged."""
    if not os.path.isfile(path):  # unlike Path.is_file false in a folder that is closed to us
        return None
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch makes of it
        logger.info("computing again what %s held, which is damaged: %s", path, error)
        return None


def write_tensors(path: Path, value: Any) -> None:
    """Store tensors, or plain containers of them; where the folder cannot be written to, they are computed again next time."""
    import torch

    try:
        with atomic_path(path) as temporary:
            torch.save(value, temporary)
    except OSError as error:
        logger.info("not stored: %s", error)
