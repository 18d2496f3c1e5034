"""`SHA256SUMS`, as `sha256sum -c` reads it."""

from pathlib import Path

SUMS = "SHA256SUMS"


def read_sums(folder: Path) -> dict[str, str]:
    """Relative name -> digest. Raises `OSError` where the folder has no such file."""
    lines = (folder / SUMS).read_text(encoding="utf-8").split("\n")
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines) if name}
