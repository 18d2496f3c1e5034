"""Files that are foreign, cut, changed or made to harm: one line, or the exact picture."""

import json
import random
import subprocess
import sys
import zlib

import pytest
from relatent.systems.codec.bitstream.container import Container, read_container
from relatent.systems.codec.errors import BitstreamError
from synthetic_pictures import picture_of

# Decodes a thousand changed files under a limit of memory that is set once the libraries are loaded; prints what came of them.
MUTATE = """
import json
import random
import resource
import sys
import zlib
import torch
from relatent.systems.codec.bitstream.model_folder import load_model
from relatent.systems.codec.errors import BitstreamError
torch.set_num_threads(1)
codec = load_model(sys.argv[1])
data = open(sys.argv[2], "rb").read()
picture = codec.decompress(data)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (240, 240))
generator = random.Random(1)
mended = sys.argv[3] == "mended"
counts = {"refused": 0, "exact": 0, "other": 0}
for _ in range(1000):
    changed = bytearray(data)
    kind = generator.randrange(4)
    if kind == 0:
        del changed[generator.randrange(len(data)):]
    elif kind == 1:
        at = generator.randrange(len(data))
        changed[at:at] = generator.randbytes(generator.randrange(1, 9))
    else:
        # half of them in the header, where the sizes and lengths are
        span = len(data) if kind == 2 else 26
        for _ in range(generator.randrange(1, 4)):
            changed[generator.randrange(span)] = generator.randrange(256)
    if mended and len(changed) > 8:
        changed[4:8] = zlib.crc32(changed[:4] + changed[8:]).to_bytes(4, "little")
    try:
        found = codec.decompress(bytes(changed), max_pixels=1 << 16)
    except BitstreamError as error:
        assert str(error) and "\\n" not in str(error)
        counts["refused"] += 1
    else:
        counts["exact" if torch.equal(found, picture) else "other"] += 1
print(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def data(codec):
    return codec.compress(picture_of(40, 70, 4))


@pytest.mark.parametrize("checksum", ["as it is", "mended"])
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space by /proc")
def test_a_thousand_changed_files(codec_folder, data, tmp_path, checksum):
    """With the checksum made right again a changed payload may decode to another picture, never crash or allocate."""
    path = tmp_path / "picture.rlc"
    path.write_bytes(data)
    command = [sys.executable, "-c", MUTATE, str(codec_folder), str(path), checksum]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    counts = json.loads(result.stdout)
    assert sum(counts.values()) == 1000
    assert counts["refused"] > 900
    if checksum == "as it is":
        assert counts["other"] == 0


def test_every_truncation_is_refused(codec, data):
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            codec.decompress(data[:length])
    with pytest.raises(BitstreamError, match="checksum"):
        codec.decompress(data + b"x")


def container_of(codec, height=40, width=70, model=None, streams=(b"", b"", b"", b"")):
    return Container(model or codec.sha256[:8], height, width, streams).to_bytes()


def with_checksum(data: bytes) -> bytes:
    return data[:4] + zlib.crc32(data[:4] + data[8:]).to_bytes(4, "little") + data[8:]


def test_each_refusal_says_why(codec, data):
    other = bytes(8)
    size = "claims a picture of 2000000×2000000 pixels; at least 1×1 and at most 67108864 pixels are accepted"
    cases = [
        (b"", "does not begin with RLC"),
        (b"\xff\xd8\xff" + data, "does not begin with RLC"),
        (data[:15], "it has 15 bytes, its header alone 16"),
        (with_checksum(data[:3] + b"\x02" + data[4:]), "is of version 2, this program reads version 1"),
        (data[:-1] + bytes([data[-1] ^ 1]), "its checksum differs"),
        (container_of(codec, model=other), f"written by the model {other.hex()}, this one is {codec.sha256[:8].hex()}"),
        (container_of(codec, 2_000_000, 2_000_000), size),
        (container_of(codec, 0, 5), "claims a picture of 5×0"),
        (container_of(codec, 1, 1 << 21), "claims a picture of"),
        (with_checksum(data[:16] + b"\x01\x01\x05\x05\x05"), "its streams are longer than itself"),
        (with_checksum(data[:16] + b"\xff" * 9), "a number in its header does not end"),
        (with_checksum(data[:16] + b"\x80\x00" * 5), "has needless zeros"),
        (container_of(codec, streams=(b"\x01\x00", b"", b"", b"")), "ends in a zero byte"),
        (container_of(codec, streams=(b"\x07" * 400, b"", b"", b"")), "the stream z is damaged"),
        (container_of(codec, streams=(b"", b"", b"", b"\x07" * 4000)), "the stream s3 is damaged"),
    ]
    for content, expected in cases:
        with pytest.raises(BitstreamError, match=expected) as caught:
            codec.decompress(content)
        assert "\n" not in str(caught.value)


def test_the_file_byte_by_byte():
    """The example of docs/codec_format.md."""
    container = Container(bytes(range(8)), 300, 7, (b"z", b"", b"s2", b"s3!"))
    data = container.to_bytes()
    assert data.hex(" ") == (
        "52 4c 43 01 " + zlib.crc32(data[:4] + data[8:]).to_bytes(4, "little").hex(" ") + " 00 01 02 03 04 05 06 07 "
        "ac 02 07 01 00 02 7a 73 32 73 33 21"
    )
    assert read_container(data, bytes(range(8))) == container


def test_numbers_of_random_files_round_trip():
    generator = random.Random(0)
    for _ in range(200):
        streams = tuple(generator.randbytes(generator.choice([0, 1, 127, 128, 20000])) for _ in range(4))
        container = Container(
            generator.randbytes(8), generator.randrange(1, 8000), generator.randrange(1, 8000), streams
        )
        assert read_container(container.to_bytes(), container.model) == container
