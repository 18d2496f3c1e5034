"""ICC profiles of colour spaces that a file states by numbers: matrix profiles of RGB, and profiles of grey.

The layout is that of ICC.1:2001 (version 2): a header of 128 bytes, a table of tags, the tags.
"""

import struct
from collections.abc import Callable

import numpy as np

Chromaticity = tuple[float, float]  # CIE 1931 x and y
Curve = Callable[[np.ndarray], np.ndarray]  # stored values in [0, 1] -> light, 1 for white

ENTRIES = 4096  # of a curve's table
D50 = np.array([0.9642, 1.0, 0.8249])  # XYZ of the white of the profile connection space
D65 = (0.3127, 0.3290)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def srgb_curve(values: np.ndarray) -> np.ndarray:
    """Return the light of stored values by the curve of sRGB (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def rgb_profile(primaries: tuple[Chromaticity, ...], white: Chromaticity, curve: Curve) -> bytes:
    """Return the profile of an RGB space. primaries: of red, green and blue.

    Raises `ValueError` for chromaticities that span no space.
    """
    columns = np.array([_xyz(one) for one in primaries]).T
    try:
        scale = np.linalg.solve(columns, _xyz(white))
        cones = BRADFORD @ np.stack([D50, _xyz(white)], 1)
        adapt = np.linalg.solve(BRADFORD, np.diag(cones[:, 0] / cones[:, 1]) @ BRADFORD)
    except np.linalg.LinAlgError as error:
        raise ValueError("its primaries lie on a line") from error
    matrix = adapt @ (columns * scale)
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > 8.0:
        raise ValueError("its primaries span no colour space")
    table = _curve(curve)
    tags = {b"wtpt": _xyz_tag(D50)}
    for name, column in zip((b"r", b"g", b"b"), matrix.T, strict=True):
        tags |= {name + b"XYZ": _xyz_tag(column), name + b"TRC": table}
    return _profile(b"RGB ", tags)


def grey_profile(curve: Curve) -> bytes:
    """Return the profile of a grey space."""
    return _profile(b"GRAY", {b"wtpt": _xyz_tag(D50), b"kTRC": _curve(curve)})


def _xyz(chromaticity: Chromaticity) -> np.ndarray:
    """Return the XYZ of a chromaticity, of luminance 1. Raises `ValueError` for one without luminance."""
    x, y = chromaticity
    if y <= 0.0:
        raise ValueError("a chromaticity without luminance")
    return np.array([x / y, 1.0, (1.0 - x - y) / y])


def _xyz_tag(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(curve: Curve) -> bytes:
    light = np.clip(curve(np.linspace(0.0, 1.0, ENTRIES)), 0.0, 1.0)
    return b"curv\0\0\0\0" + struct.pack(">I", ENTRIES) + np.round(light * 65535).astype(">u2").tobytes()


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += name + struct.pack(">II", start + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    header = struct.pack(">I4xI", start + len(body), 0x02400000) + b"mntr" + space + b"XYZ "
    header += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", *(round(value * 65536) for value in D50))
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
