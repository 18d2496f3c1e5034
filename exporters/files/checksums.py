"""Reader of `SHA256SUMS` files, in the format of `sha256sum -c`."""

from collections.abc import Iterator
from pathlib import Path

SUMS = "SHA256SUMS"


def read_sums(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield digests and relative names. Raises `OSError` where the folder has no such file."""
    with (folder / SUMS).open(encoding="utf-8", newline="\n") as file:
        for line in file:
            digest, _, name = line.rstrip("\n").partition("  ")
            yield digest, name
