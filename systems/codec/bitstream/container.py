"""The compressed file, byte by byte. docs/codec_format.md is its specification."""

import zlib
from dataclasses import dataclass

from ..errors import BitstreamError

MAGIC = b"RLC"
VERSION = 1
MODEL_BYTES = 8  # of the model's SHA-256
STREAMS = ("z", "s1", "s2", "s3")
LARGEST_SIDE = (1 << 21) - 1  # three bytes of a number
MAX_PIXELS = 1 << 26
_FIXED = len(MAGIC) + 1 + 4 + MODEL_BYTES
_MOST_NUMBER_BYTES = 5


@dataclass(frozen=True)
class Container:
    """What a file holds."""

    model: bytes  # the first eight bytes of the model's SHA-256
    height: int  # of the picture, pixels
    width: int
    streams: tuple[bytes, ...]  # z, s1, s2, s3

    def to_bytes(self) -> bytes:
        numbers = [self.height, self.width, *(len(stream) for stream in self.streams[:-1])]
        checked = self.model + b"".join(_number(n) for n in numbers) + b"".join(self.streams)
        head = MAGIC + bytes([VERSION])
        return head + zlib.crc32(head + checked).to_bytes(4, "little") + checked


def model_of(data: bytes) -> bytes:
    """The first eight bytes of the SHA-256 of the model that a file was written with.

    Raises BitstreamError where the file is foreign, of another version, truncated or damaged.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise BitstreamError("no file of this codec: it does not begin with RLC")
    if len(data) < _FIXED:
        raise BitstreamError(
            f"the file is truncated: it has {len(data)} bytes, its header alone {_FIXED}; get it again"
        )
    if data[3] != VERSION:
        raise BitstreamError(
            f"the file is of version {data[3]}, this program reads version {VERSION}; upgrade relatent"
        )
    if zlib.crc32(data[:4] + data[8:]) != int.from_bytes(data[4:8], "little"):
        raise BitstreamError("the file is damaged or truncated: its checksum differs; get it again")
    return data[8:_FIXED]


def read_container(data: bytes, model: bytes) -> Container:
    """A file's parts, checked before anything is allocated.

    model: the first eight bytes of the SHA-256 of the model at hand.
    Raises BitstreamError where the file is foreign, of another version or model, truncated, damaged or too large.
    """
    found = model_of(data)
    if found != model:
        raise BitstreamError(
            f"the file was written by the model {found.hex()}, this one is {model.hex()}; give the model it was written with"
        )
    numbers, at = [], _FIXED
    for _ in range(1 + len(STREAMS)):
        number, at = _read_number(data, at)
        numbers.append(number)
    height, width, *lengths = numbers
    if not (0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE) or height * width > MAX_PIXELS:
        raise BitstreamError(
            f"the file claims a picture of {width}×{height} pixels; at least 1×1 and at most {MAX_PIXELS} pixels are accepted"
        )
    if at + sum(lengths) > len(data):
        raise BitstreamError("the file is damaged: its streams are longer than itself; get it again")
    streams = []
    for length in lengths:
        streams.append(data[at : at + length])
        at += length
    return Container(found, height, width, (*streams, data[at:]))


def _number(value: int) -> bytes:
    """LEB128: seven bits a byte, least significant first, the top bit set on all but the last byte."""
    result = bytearray()
    while value >= 128:
        result.append(value & 127 | 128)
        value >>= 7
    result.append(value)
    return bytes(result)


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    """A number and where the next byte is; its shortest form only."""
    value = 0
    for i, byte in enumerate(data[at : at + _MOST_NUMBER_BYTES]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            if byte == 0 and i:
                break
            return value, at + i + 1
    raise BitstreamError("the file is damaged: a number in its header does not end or has needless zeros; get it again")
