"""Picture files that Pillow does not write, byte by byte."""

import struct
import zlib

import numpy as np


def insert_chunks(path, **given):
    """Put chunks right behind a PNG's header."""
    content = path.read_bytes()
    made = b"".join(
        struct.pack(">I", len(data)) + name.encode() + data + struct.pack(">I", zlib.crc32(name.encode() + data))
        for name, data in given.items()
    )
    path.write_bytes(content[:33] + made + content[33:])


def tiff(path, values, bits, photometric=1, profile=None):
    """A strip of grey values, packed as the format has it."""
    height, width = values.shape
    if bits == 12:
        first, second = values[:, ::2].astype(int), values[:, 1::2].astype(int)
        packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8).tobytes()
    else:
        packed = values.astype("<u2").tobytes()
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, photometric),
            (273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, height), (279, 4, 1, len(packed))]  # fmt: skip
    end = 8 + len(packed)
    after = b""
    if profile:
        tags.append((34675, 7, len(profile), end + 2 + 12 * 10 + 4))
        after = profile
    table = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", end) + packed + table + after)
    return path


def png16(path, colour_type, values):
    """A PNG of 16 bits, which Pillow does not write. values: uint16 (H, W, C)."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    whole = path.read_bytes()
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    for name, data in parts.items():
        whole += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(whole)
    return path
