"""Chunks of a PNG file: what they say of its depth and colours, and the file without the metadata that Pillow refuses."""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
ORIENTATION = {
    b"tEXt": b"Raw profile type exif\0",
    b"zTXt": b"Raw profile type exif\0\0",
    b"iTXt": b"XML:com.adobe.xmp\0\0",
}
MOST_TEXT = 2**19  # bytes of a text that may hold the orientation, inflated
MOST_PROFILE = 2**25  # bytes of a colour profile, inflated; those of printers take 3 MB


def is_png(content: bytes) -> bool:
    """Return whether the content is that of a PNG file, with its header."""
    return content.startswith(SIGNATURE) and content[12:16] == b"IHDR" and len(content) > 33


def depth(content: bytes) -> tuple[int, int]:
    """Return the bits per channel, and the colour type: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha."""
    return content[24], content[25]


def colour_chunks(content: bytes) -> dict[bytes, bytes]:
    """Return the chunks that state the colour space, by name; those whose checksum is wrong are left out."""
    found: dict[bytes, bytes] = {}
    for name, data, sound, _ in _chunks(content):
        if name == b"IDAT":
            break
        if name in COLOUR and sound:
            found.setdefault(name, data)
    return found


def profile(chunk: bytes) -> bytes:
    """Return the ICC profile of an iCCP chunk. Raises `ValueError` where it is damaged or unreasonably large."""
    _, separator, rest = chunk.partition(b"\0")
    if not separator or rest[:1] != b"\0":
        raise ValueError("unknown compression")
    try:
        return _inflate(rest[1:], MOST_PROFILE)
    except zlib.error as error:
        raise ValueError(str(error)) from error


def without_metadata(content: bytes) -> bytes:
    """Return the file with the picture alone, its transparency and its orientation; all other chunks are left out."""
    parts = [SIGNATURE]
    for name, data, sound, whole in _chunks(content):
        if name in PICTURE or (sound and (name == b"eXIf" or _tells_orientation(name, data))):
            parts.append(whole)
    return b"".join(parts)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes, bool, bytes]]:
    """Yield name, data, whether the checksum is right, and the whole chunk as it is stored; the last may be cut off."""
    place = len(SIGNATURE)
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        whole = content[place : place + 12 + length]
        name, data = whole[4:8], whole[8 : 8 + length]
        # the checksums of the pixels are left to the decoder
        sound = name == b"IDAT" or zlib.crc32(data, zlib.crc32(name)).to_bytes(4, "big") == whole[8 + length :]
        yield name, data, sound, whole
        place += 12 + length


def _tells_orientation(name: bytes, data: bytes) -> bool:
    """Return whether a text chunk holds what Pillow reads the orientation from, and can be read."""
    start = ORIENTATION.get(name)
    if start is None or not data.startswith(start) or len(data) > MOST_TEXT:
        return False
    if name != b"zTXt":
        return True
    try:
        _inflate(data[len(start) :], MOST_TEXT)
    except (ValueError, zlib.error):
        return False
    return True


def _inflate(data: bytes, most: int) -> bytes:
    decoder = zlib.decompressobj()
    found = decoder.decompress(data, most)
    if decoder.unconsumed_tail:
        raise ValueError(f"over {most} bytes")
    return found
