"""Kinds of pictures that Pillow reads with the help of another package, which is an optional extra of this one."""

import importlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

from ...errors import ImageError


@dataclass(frozen=True)
class OptionalKind:
    """A kind of picture, and what reads it."""

    name: str
    suffixes: tuple[str, ...]
    package: str  # that is imported
    extra: str  # of this package

    @property
    def remedy(self) -> str:
        """What has to be done to read it."""
        return f'{self.name} needs pip install "relatent[{self.extra}]"'

    @property
    def installed(self) -> bool:
        """Whether its package is installed."""
        return _is_installed(self.package)


@cache
def _is_installed(package: str) -> bool:
    return find_spec(package) is not None


HEIF = OptionalKind("HEIC", (".heic", ".heif", ".hif"), "pillow_heif", "heif")
JXL = OptionalKind("JPEG XL", (".jxl",), "pillow_jxl", "jxl")
OPTIONAL = (HEIF, JXL)
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def load_reader(content: bytes) -> None:
    """Make Pillow able to read content of an optional kind, by its first bytes. Raises `ImageError`, with the remedy."""
    kind = _kind(content)
    if kind is not None:
        if not kind.installed:
            raise ImageError(kind.remedy)
        _register(kind)


def _kind(content: bytes) -> OptionalKind | None:
    """Return the optional kind of a file; None for any other."""
    if content.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return JXL
    brands = content[8 : int.from_bytes(content[:4], "big")] if content[4:8] == b"ftyp" else b""
    if brands[:4] in HEIF_BRANDS and b"avif" not in brands:
        return HEIF
    return None


@cache
def _register(kind: OptionalKind) -> None:
    """Import the package of a kind, and enter it with Pillow. Raises `ImageError` where it does not work."""
    try:
        module = importlib.import_module(kind.package)
    except ImportError as error:
        raise ImageError(f"{kind.remedy}: what is installed cannot be imported: {error}") from error
    if kind is HEIF:
        module.register_heif_opener()  # the other one does so on import
