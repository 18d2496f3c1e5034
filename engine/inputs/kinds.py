"""Kinds of picture files by their endings: those that are read, and those that are known and not read."""

from .decoding.optional import OPTIONAL

SUFFIXES = frozenset(
    [
        ".apng",
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpf",
        ".jpg",
        ".jpx",
        ".mpo",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".qoi",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
    ]
)
RAW = frozenset(
    [
        ".3fr",
        ".arw",
        ".cr2",
        ".cr3",
        ".crw",
        ".dcr",
        ".dng",
        ".erf",
        ".iiq",
        ".kdc",
        ".mef",
        ".mos",
        ".mrw",
        ".nef",
        ".nrw",
        ".orf",
        ".pef",
        ".raf",
        ".raw",
        ".rw2",
        ".rwl",
        ".sr2",
        ".srf",
        ".srw",
        ".x3f",
    ]
)
OTHERS = frozenset(
    [
        ".ai",
        ".bpg",
        ".clip",
        ".dds",
        ".eps",
        ".exr",
        ".flif",
        ".hdr",
        ".icns",
        ".ico",
        ".jxr",
        ".kra",
        ".pcx",
        ".pfm",
        ".psb",
        ".psd",
        ".sgi",
        ".svg",
        ".wdp",
        ".xcf",
    ]
)


def is_read(suffix: str) -> bool:
    """Return whether files of this ending are pictures that can be read here. suffix: with its dot, of any case."""
    suffix = suffix.lower()
    return suffix in SUFFIXES or any(suffix in kind.suffixes and kind.installed for kind in OPTIONAL)


def why_not_read(suffix: str) -> str | None:
    """Return why pictures of this ending are not read, with the remedy; None where it is no known ending of pictures."""
    suffix = suffix.lower()
    for kind in OPTIONAL:
        if suffix in kind.suffixes:
            return kind.remedy
    if suffix in RAW:
        return "a camera's raw format is not read; develop it, for example to TIFF"
    return "not read; convert it, for example to PNG" if suffix in OTHERS else None
