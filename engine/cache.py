"""Where what was computed once is kept between processes."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """`$XDG_CACHE_HOME/relatent/<name>`, or under `~/.cache`; not made here."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relatent" / name
